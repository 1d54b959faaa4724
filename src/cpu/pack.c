/* Packing: rows as the file has them into the layout of pack.h. Pure, one group at a time, so that
 * groups can be packed on all threads.
 *
 * Blocks of most types have planes too. So words of 16 rows are transposed as they lie in the file, and then make
 * vectors of the layout by shifts and masks: loops over the rows, which the compiler turns into vector instructions.
 * The other types (code books, digits of base 3) are taken value by value. */
#include "cpu/pack.h"

#include "quant/blocks.h"

#define NONE QRL_LUT_NONE
#define NL4  QRL_LUT_NL4
#define FP4  QRL_LUT_FP4
enum layout {
#define ROW(name, ...) LAYOUT_##name,
    QRL_LAYOUTS(ROW)
#undef ROW
};
static const qrl_pack layouts[] = {
#define ROW(name, planes, offset, lut, head, units) [LAYOUT_##name] = {planes, offset, lut, head, units},
    QRL_LAYOUTS(ROW)
#undef ROW
};
static const qrl_pack *const packs[QRL_TYPE_COUNT] = {
#define ROW(type, layout) [QRL_##type] = &layouts[LAYOUT_##layout],
    QRL_PACKS(ROW)
#undef ROW
};

const qrl_pack *qrl_pack_of(qrl_type type) {
    return packs[type];
}

static size_t super_bytes(const qrl_pack *p) {
    return qrl_head_bytes(p->head) + p->units * qrl_planes_bytes(p->planes);
}

size_t qrl_group_bytes(qrl_type type, size_t n_cols) {
    const qrl_pack *p = qrl_pack_of(type);
    if (!p)
        return n_cols * QRL_GROUP * qrl_quant_traits(type)->block_bytes;
    return n_cols / (p->units * QRL_UNIT) * super_bytes(p);
}

enum form {
    VALUES, /* as qrl_traits.unpack gives them */
    HALVES, /* 16 bytes a unit: value i in the low, i + 16 in the high half of byte i; fifth bits: a word */
    PLANES, /* 32 bytes for as many units as find room in them: the first in the low bits, and so on (blocks.h) */
    CROSS,  /* the same, but of two such pieces one has the even and one the odd units: the low bits of q6_K */
};

/* Where the blocks of a type keep what: bytes from their beginnings. But for VALUES, a block is a superblock, and its
 * planes have as many bits as those of its layout. */
typedef struct source {
    unsigned char form, low, high; /* planes; CROSS is of the first alone */
    unsigned char d, m, scales;
} source;

static const source sources[QRL_TYPE_COUNT] = {
#define AT(type, member) offsetof(qrl_block_##type, member)
    [QRL_Q4_0] = {HALVES, AT(Q4_0, qs), .d = AT(Q4_0, d)},
    [QRL_Q4_1] = {HALVES, AT(Q4_1, qs), .d = AT(Q4_1, d), .m = AT(Q4_1, m)},
    [QRL_Q5_0] = {HALVES, AT(Q5_0, qs), AT(Q5_0, qh), .d = AT(Q5_0, d)},
    [QRL_Q5_1] = {HALVES, AT(Q5_1, qs), AT(Q5_1, qh), .d = AT(Q5_1, d), .m = AT(Q5_1, m)},
    [QRL_Q8_0] = {PLANES, AT(Q8_0, qs), .d = AT(Q8_0, d)},
    [QRL_Q2_K] = {PLANES, AT(Q2_K, qs), .d = AT(Q2_K, d), .m = AT(Q2_K, dmin), .scales = AT(Q2_K, scales)},
    [QRL_Q3_K] = {PLANES, AT(Q3_K, qs), AT(Q3_K, hmask), .d = AT(Q3_K, d), .scales = AT(Q3_K, scales)},
    [QRL_Q4_K] = {PLANES, AT(Q4_K, qs), .d = AT(Q4_K, d), .m = AT(Q4_K, dmin), .scales = AT(Q4_K, scales)},
    [QRL_Q5_K] = {PLANES, AT(Q5_K, qs), AT(Q5_K, qh), AT(Q5_K, d), AT(Q5_K, dmin), AT(Q5_K, scales)},
    [QRL_Q6_K] = {CROSS, AT(Q6_K, ql), AT(Q6_K, qh), .d = AT(Q6_K, d), .scales = AT(Q6_K, scales)},
    [QRL_IQ4_NL] = {HALVES, AT(IQ4_NL, qs), .d = AT(IQ4_NL, d)},
    [QRL_IQ4_XS] = {HALVES, AT(IQ4_XS, qs), .d = AT(IQ4_XS, d), .scales = AT(IQ4_XS, scales_h)},
    [QRL_MXFP4] = {HALVES, AT(MXFP4, qs), .scales = AT(MXFP4, e)},
#undef AT
};

/* 16 rows, as the file has them. */
typedef struct group {
    qrl_type type;
    const qrl_pack *pack;
    const unsigned char *rows;
    size_t row_bytes, n_rows; /* those that there are */
} group;

/* Byte `at` of a row; of one beyond the matrix, zeros: as many as a block has. */
static inline const unsigned char *row_at(const group *g, size_t r, size_t at) {
    static const unsigned char zeros[256];
    return r < g->n_rows ? g->rows + r * g->row_bytes + at : zeros;
}

/* 4 x 4 words, in vectors that gcc and clang have for every processor. `to`: rows `stride` bytes apart. */
static inline void transpose_4x4(const unsigned char *const from[4], unsigned char *to, size_t stride) {
    typedef uint32_t quad __attribute__((vector_size(16)));
    quad row[4];
    for (size_t i = 0; i < 4; i++)
        memcpy(&row[i], from[i], sizeof *row);
    const quad low_a = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
    const quad low_b = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
    const quad high_a = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
    const quad high_b = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
    const quad column[4] = {
        __builtin_shufflevector(low_a, low_b, 0, 1, 4, 5), __builtin_shufflevector(low_a, low_b, 2, 3, 6, 7),
        __builtin_shufflevector(high_a, high_b, 0, 1, 4, 5), __builtin_shufflevector(high_a, high_b, 2, 3, 6, 7)};
    for (size_t i = 0; i < 4; i++)
        memcpy(to + i * stride, &column[i], sizeof *column);
}

#define BYTES(x) ((x)*0x01010101u) /* a word of equal bytes */

/* A word of each row. */
typedef uint32_t vector[QRL_GROUP];

/* The word of each row at byte `at`. */
static void gather(const group *g, size_t at, vector out) {
    for (size_t r = 0; r < QRL_GROUP; r++)
        memcpy(&out[r], row_at(g, r, at), sizeof *out);
}

/* n of them, a multiple of 4. */
static inline void transpose(const group *g, size_t at, size_t n, vector *out) {
    for (size_t r = 0; r < QRL_GROUP; r += 4) {
        const unsigned char *from[4];
        for (size_t i = 0; i < 4; i++)
            from[i] = row_at(g, r + i, at);
        for (size_t word = 0; word < n; word += 4) {
            transpose_4x4(from, (unsigned char *)&out[word][r], sizeof *out);
            for (size_t i = 0; i < 4; i++)
                from[i] += 16;
        }
    }
}

/* A plane of `bits` bits, and so of as many vectors, from the chunks' bits from `shift` on. */
static inline __attribute__((always_inline)) void put_bits(unsigned bits, const vector chunks[8], unsigned shift,
                                                           unsigned char *out) {
    const unsigned per_byte = 8 / bits;
    const uint32_t mask = BYTES((1u << bits) - 1), offset = bits == 8 ? BYTES(128u) : 0; /* of signed bytes */
    for (unsigned v = 0; v < bits; v++) {
        vector sum = {0};
        for (unsigned i = 0; i < per_byte; i++) { /* nibbles pair chunks c and c + 4, the others are consecutive */
            const uint32_t *chunk = chunks[bits == 4 ? v + 4 * i : v * per_byte + i];
            for (size_t r = 0; r < QRL_GROUP; r++)
                sum[r] |= ((chunk[r] >> shift & mask) << (bits * i)) ^ offset;
        }
        memcpy(out + v * sizeof sum, sum, sizeof sum);
    }
}

/* With constants, by which the compiler unrolls. */
static void put_plane(unsigned bits, const vector chunks[8], unsigned shift, unsigned char *out) {
    switch (bits) {
    case 1:
        put_bits(1, chunks, shift, out);
        return;
    case 2:
        put_bits(2, chunks, shift, out);
        return;
    case 4:
        put_bits(4, chunks, shift, out);
        return;
    default:
        put_bits(8, chunks, shift, out);
    }
}

/* The fifth bits of q5_0 and q5_1: bit 4c + j of a row's word is for byte j of chunk c. */
static void put_fifth_bits(const vector bits, unsigned char *out) {
    vector sum = {0};
    for (unsigned c = 0; c < 8; c++)
        for (size_t r = 0; r < QRL_GROUP; r++) {
            const uint32_t four = bits[r] >> (4 * c) & 15u;
            sum[r] |= ((four | four << 7 | four << 14 | four << 21) & BYTES(1)) << c;
        }
    memcpy(out, sum, sizeof sum);
}

static void put_halves(const group *g, size_t block, unsigned char *out) {
    const source *s = &sources[g->type];
    for (size_t u = 0; u < g->pack->units; u++, out += qrl_planes_bytes(g->pack->planes)) {
        vector words[4]; /* low nibbles: chunks 0 .. 3; high ones: 4 .. 7; so this is the plane */
        transpose(g, block + s->low + 16 * u, 4, words);
        memcpy(out, words, sizeof words);
        if (g->pack->planes == 41) {
            gather(g, block + s->high, words[0]);
            put_fifth_bits(words[0], out + sizeof words);
        }
    }
}

/* A plane of all units, from pieces of 32 bytes of the file. */
static void put_planes(const group *g, bool cross, size_t at, unsigned bits, unsigned char *out) {
    const size_t per_piece = 8 / bits, pieces = (g->pack->units + per_piece - 1) / per_piece;
    for (size_t piece = 0; piece < pieces; piece++) {
        vector chunks[8];
        transpose(g, at + QRL_UNIT * piece, 8, chunks);
        for (unsigned i = 0; i < per_piece; i++) {
            const size_t unit = cross ? piece / 2 * 4 + piece % 2 + 2 * i : piece * per_piece + i;
            put_plane(bits, chunks, bits * i, out + unit * qrl_planes_bytes(g->pack->planes));
        }
    }
}

static unsigned first_bits(int planes) {
    return (unsigned)(planes < 10 ? planes : planes / 10);
}
static unsigned second_bits(int planes) {
    return (unsigned)(planes < 10 ? 0 : planes % 10);
}

static unsigned char *put_half_floats(const group *g, size_t at, unsigned char *out) {
    for (size_t r = 0; r < QRL_GROUP; r++)
        memcpy(out + 2 * r, row_at(g, r, at), 2);
    return out + 2 * QRL_GROUP;
}

static void put_bytes(const vector words[4], unsigned char *out) {
    for (size_t i = 0; i < 16; i++)
        for (size_t r = 0; r < QRL_GROUP; r++)
            out[i * QRL_GROUP + r] = (unsigned char)(words[i / 4][r] >> (8 * (i % 4)));
}

/* Eight scales and eight minima of 6 bits: qrl_scale_min_get for four of them at a time. */
static void six_bits_km(vector w[4]) {
    for (size_t r = 0; r < QRL_GROUP; r++) {
        const uint32_t a = w[0][r], b = w[1][r], c = w[2][r];
        w[0][r] = a & BYTES(63);
        w[1][r] = (c & BYTES(15)) | (a >> 6 & BYTES(3)) << 4;
        w[2][r] = b & BYTES(63);
        w[3][r] = (c >> 4 & BYTES(15)) | (b >> 6 & BYTES(3)) << 4;
    }
}

/* Sixteen of q3_K: qrl_q3_scale_get, less 32. */
static void six_bits_q3(vector w[4]) {
    for (size_t r = 0; r < QRL_GROUP; r++) {
        const uint32_t low[2] = {w[0][r], w[1][r]}, high = w[2][r];
        for (unsigned i = 0; i < 4; i++) {
            const uint32_t six = (low[i % 2] >> (4 * (i / 2)) & BYTES(15)) | (high >> (2 * i) & BYTES(3)) << 4;
            w[i][r] = ((six | BYTES(128)) - BYTES(32)) ^ BYTES(128);
        }
    }
}

/* Eight of iq4_xs, less 32, as bytes: w[0] begins with the upper bits, w[1] has the lower. */
static void put_six_bits_iq4(const vector w[2], unsigned char *out) {
    for (unsigned u = 0; u < 8; u++)
        for (size_t r = 0; r < QRL_GROUP; r++)
            out[u * QRL_GROUP + r] =
                (unsigned char)(((w[1][r] >> (4 * u) & 15u) | (w[0][r] >> (2 * u) & 3u) << 4) - 32u);
}

/* Scales that are bytes here; at: where they begin in a row. */
static void put_scales(const group *g, size_t at, unsigned char *out) {
    const qrl_head head = g->pack->head;
    const bool q3 = g->type == QRL_Q3_K;
    vector words[4];
    switch (head) {
    case QRL_HEAD_E8:
        for (size_t r = 0; r < QRL_GROUP; r++)
            out[r] = *row_at(g, r, at);
        return;
    case QRL_HEAD_K:
        gather(g, at, words[0]);
        gather(g, at + 2, words[1]);
        put_six_bits_iq4(words, out);
        return;
    case QRL_HEAD_KM:
    case QRL_HEAD_KM16:
    case QRL_HEAD_K16:
        for (size_t i = 0; i < (head == QRL_HEAD_KM || q3 ? 3 : 4); i++)
            gather(g, at + 4 * i, words[i]);
        if (head == QRL_HEAD_KM)
            six_bits_km(words);
        else if (q3)
            six_bits_q3(words);
        put_bytes(words, out);
        return;
    default:
        return;
    }
}

static void put_head(const group *g, size_t block, unsigned char *out) {
    const source *s = &sources[g->type];
    const qrl_head head = g->pack->head;
    if (head != QRL_HEAD_E8)
        out = put_half_floats(g, block + s->d, out);
    if (head == QRL_HEAD_DM || head == QRL_HEAD_KM || head == QRL_HEAD_KM16)
        out = put_half_floats(g, block + s->m, out);
    put_scales(g, block + s->scales, out);
}

/* block: where the superblock begins in a row. */
static void put_super(const group *g, size_t block, unsigned char *out) {
    const source *s = &sources[g->type];
    const unsigned first = first_bits(g->pack->planes), second = second_bits(g->pack->planes);
    put_head(g, block, out);
    out += qrl_head_bytes(g->pack->head);
    if (s->form == HALVES) {
        put_halves(g, block, out);
        return;
    }
    put_planes(g, s->form == CROSS, block + s->low, first, out);
    if (second)
        put_planes(g, false, block + s->high, second, out + sizeof(vector) * first);
}

/* From values back to what is stored: the sum with the offset, or the index in the table. */
typedef struct stored_map {
    int offset;
    bool by_index;
    unsigned char index[256]; /* of value - 128 */
} stored_map;

static void make_stored_map(const qrl_pack *p, stored_map *map) {
    static const int8_t luts[][16] = {[QRL_LUT_NL4] = {QRL_LUT_NL4_VALUES}, [QRL_LUT_FP4] = {QRL_LUT_FP4_VALUES}};
    map->offset = p->planes == 8 ? 0 : p->offset; /* put_bits adds that of bytes */
    map->by_index = p->lut != QRL_LUT_NONE;
    for (int i = 15; map->by_index && i >= 0; i--)
        map->index[luts[p->lut][i] + 128] = (unsigned char)i;
}

static void store(const stored_map *map, const int8_t q[QRL_UNIT], unsigned char u[QRL_UNIT]) {
    if (map->by_index)
        for (size_t k = 0; k < QRL_UNIT; k++)
            u[k] = map->index[q[k] + 128];
    else
        for (size_t k = 0; k < QRL_UNIT; k++)
            u[k] = (unsigned char)(q[k] + map->offset);
}

/* Unit by unit; the layouts of these types have one plane, and float scales for each unit. */
static void pack_values(const group *g, size_t units, unsigned char *out) {
    const qrl_pack *p = g->pack;
    const qrl_traits *t = qrl_quant_traits(g->type);
    stored_map map = {0};
    make_stored_map(p, &map);
    unsigned char stored[QRL_GROUP][QRL_UNIT] = {0};
    float scales[2][QRL_GROUP] = {0};
    const group all = {.rows = *stored, .row_bytes = sizeof *stored, .n_rows = QRL_GROUP};
    for (size_t u = 0; u < units; u++, out += super_bytes(p)) {
        for (size_t r = 0; r < g->n_rows; r++) {
            qrl_qunit q;
            t->unpack(row_at(g, r, 0), u, &q);
            store(&map, q.q, stored[r]);
            scales[0][r] = q.scale[0];
            scales[1][r] = q.scale[1];
        }
        vector chunks[8];
        transpose(&all, 0, 8, chunks);
        memcpy(out, scales, qrl_head_bytes(p->head));
        put_plane(first_bits(p->planes), chunks, 0, out + qrl_head_bytes(p->head));
    }
}

enum { LINE = 64 }; /* bytes of a row at a time, for they may not stay in the cache beside the others' */

static void put_words(const group *g, size_t at, unsigned char *out) {
    vector words[LINE / 4];
    transpose(g, at, LINE / 4, words);
    memcpy(out, words, sizeof words);
}

/* Values of 2 bytes: those of two rows beside each other make words. */
static void put_halfwords(const group *g, size_t at, unsigned char *out) {
    typedef uint16_t eight __attribute__((vector_size(16)));
    unsigned char pairs[QRL_GROUP / 2][2 * LINE];
    for (size_t p = 0; p < QRL_GROUP / 2; p++)
        for (size_t k = 0; k < LINE; k += sizeof(eight)) {
            eight a, b;
            memcpy(&a, row_at(g, 2 * p, at) + k, sizeof a);
            memcpy(&b, row_at(g, 2 * p + 1, at) + k, sizeof b);
            const eight low = __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
            const eight high = __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
            memcpy(pairs[p] + 2 * k, &low, sizeof low);
            memcpy(pairs[p] + 2 * k + sizeof low, &high, sizeof high);
        }
    for (size_t p = 0; p < QRL_GROUP / 2; p += 4)
        for (size_t k = 0; k < 2 * LINE; k += 16) {
            const unsigned char *const from[4] = {pairs[p] + k, pairs[p + 1] + k, pairs[p + 2] + k, pairs[p + 3] + k};
            transpose_4x4(from, out + k / 4 * 2 * QRL_GROUP + 4 * p, 2 * QRL_GROUP);
        }
}

static void pack_float(const group *g, size_t size, unsigned char *out) {
    size_t at = 0;
    for (; at + LINE <= g->row_bytes; at += LINE, out += LINE * QRL_GROUP)
        (size == 2 ? put_halfwords : put_words)(g, at, out);
    for (; at < g->row_bytes; at += size)
        for (size_t r = 0; r < QRL_GROUP; r++, out += size)
            memcpy(out, row_at(g, r, at), size);
}

void qrl_pack_group(qrl_type type, const unsigned char *data, size_t n_rows, size_t n_cols, size_t first_row,
                    unsigned char *out) {
    const qrl_traits *t = qrl_quant_traits(type);
    const qrl_pack *p = qrl_pack_of(type);
    const size_t row_bytes = qrl_row_bytes(type, n_cols), left = n_rows - first_row;
    const group g = {type, p, data + first_row * row_bytes, row_bytes, left < QRL_GROUP ? left : QRL_GROUP};
    if (!p)
        pack_float(&g, t->block_bytes, out);
    else if (sources[type].form == VALUES)
        pack_values(&g, n_cols / QRL_UNIT, out);
    else
        for (size_t block = 0; block < row_bytes; block += t->block_bytes, out += super_bytes(p))
            put_super(&g, block, out);
}
