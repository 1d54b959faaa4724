/* Packing: rows as the file has them into the layout of pack.h. Pure, one group at a time, so that
 * groups can be packed on all threads. */
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

/* Row r of a unit into its planes. u holds 32 stored values; a word of it is the row's part of a chunk,
 * and a word of the result is the row's part of a vector, so whole words are shifted together. */
static inline __attribute__((always_inline)) void
put_planes(unsigned first, unsigned second, const unsigned char u[QRL_UNIT], size_t r, unsigned char *out) {
    uint32_t word[8];
    memcpy(word, u, sizeof word);
    unsigned shift = 0;
    for (unsigned bits = first; bits; bits = shift == first ? second : 0) {
        const unsigned per_byte = 8 / bits, vectors = 8 / per_byte;
        const uint32_t mask = 0x01010101u * ((1u << bits) - 1);
        for (unsigned v = 0; v < vectors; v++, out += 64) {
            uint32_t w = 0;
            /* nibbles pair chunks c and c + 4, the others are consecutive */
            for (unsigned i = 0; i < per_byte; i++)
                w |= (word[bits == 4 ? v + 4 * i : v * per_byte + i] >> shift & mask) << (bits * i);
            memcpy(out + 4 * r, &w, sizeof w);
        }
        shift += bits;
    }
}

/* The same with constants, which the compiler unrolls by: packing is most of the time of opening a model. */
#define PLANES(name, first, second)                                                                                    \
    static void put_##name(const unsigned char u[QRL_UNIT], size_t r, unsigned char *out) {                            \
        put_planes(first, second, u, r, out);                                                                          \
    }
PLANES(2, 2, 0)
PLANES(21, 2, 1)
PLANES(4, 4, 0)
PLANES(41, 4, 1)
PLANES(42, 4, 2)
PLANES(8, 8, 0)
#undef PLANES
/* [planes]: row r of a unit into its planes */
static void (*const put_row[])(const unsigned char u[QRL_UNIT], size_t r, unsigned char *out) = {
    [2] = put_2, [4] = put_4, [8] = put_8, [21] = put_21, [41] = put_41, [42] = put_42};

static void put_f16(unsigned char *out, size_t i, float x) {
    qrl_put_u16(out + 2 * i, qrl_f32_to_f16(x));
}
static void put_f32(unsigned char *out, size_t i, float x) {
    memcpy(out + 4 * i, &x, 4);
}

/* The scales of row r of a superblock whose first unit is q; block is its first block in the file. */
static void put_head(const qrl_pack *p, qrl_type type, const unsigned char *block, const qrl_qunit *q, size_t r,
                     unsigned char *head) {
    const size_t g = QRL_GROUP;
    switch (p->head) {
    case QRL_HEAD_D:
        put_f16(head, r, q->scale[0]);
        return;
    case QRL_HEAD_DM:
        put_f16(head, r, q->scale[0]);
        put_f16(head + 2 * g, r, -q->min[0]);
        return;
    case QRL_HEAD_E8:
        head[r] = ((const qrl_block_MXFP4 *)block)->e;
        return;
    case QRL_HEAD_F32:
        put_f32(head, r, q->scale[0]);
        return;
    case QRL_HEAD_F32X2:
        put_f32(head, r, q->scale[0]);
        put_f32(head + 4 * g, r, q->scale[1]);
        return;
    case QRL_HEAD_KM: {
        /* q4_K and q5_K begin alike */
        const qrl_block_Q4_K *b = (const qrl_block_Q4_K *)block;
        memcpy(head + 2 * r, b->d, 2);
        memcpy(head + 2 * g + 2 * r, b->dmin, 2);
        for (unsigned u = 0; u < 8; u++) {
            unsigned scale, min;
            qrl_scale_min_get(b->scales, u, &scale, &min);
            head[4 * g + u * g + r] = (unsigned char)scale;
            head[12 * g + u * g + r] = (unsigned char)min;
        }
        return;
    }
    case QRL_HEAD_KM16: {
        const qrl_block_Q2_K *b = (const qrl_block_Q2_K *)block;
        memcpy(head + 2 * r, b->d, 2);
        memcpy(head + 2 * g + 2 * r, b->dmin, 2);
        for (unsigned j = 0; j < 16; j++)
            head[4 * g + j * g + r] = b->scales[j];
        return;
    }
    case QRL_HEAD_K: {
        const qrl_block_IQ4_XS *b = (const qrl_block_IQ4_XS *)block;
        memcpy(head + 2 * r, b->d, 2);
        for (unsigned u = 0; u < 8; u++) {
            const unsigned low = (unsigned)b->scales_l[u / 2] >> (4 * (u % 2)) & 15u;
            const unsigned high = (unsigned)qrl_u16(b->scales_h) >> (2 * u) & 3u;
            head[2 * g + u * g + r] = (unsigned char)((low | high << 4) - 32u);
        }
        return;
    }
    case QRL_HEAD_K16: {
        const qrl_block_Q3_K *b3 = (const qrl_block_Q3_K *)block;
        const qrl_block_Q6_K *b6 = (const qrl_block_Q6_K *)block;
        const bool q3 = type == QRL_Q3_K;
        memcpy(head + 2 * r, q3 ? b3->d : b6->d, 2);
        for (unsigned j = 0; j < 16; j++)
            head[2 * g + j * g + r] = q3 ? (unsigned char)(qrl_q3_scale_get(b3->scales, j) - 32u) : b6->scales[j];
        return;
    }
    }
}

static void pack_float(qrl_type type, const unsigned char *data, size_t n_rows, size_t n_cols, size_t first_row,
                       unsigned char *out) {
    const size_t size = qrl_quant_traits(type)->block_bytes;
    for (size_t r = 0; r < QRL_GROUP; r++) {
        if (first_row + r >= n_rows) {
            for (size_t k = 0; k < n_cols; k++)
                memset(out + (k * QRL_GROUP + r) * size, 0, size);
            continue;
        }
        const unsigned char *row = data + (first_row + r) * n_cols * size;
        if (size == 2)
            for (size_t k = 0; k < n_cols; k++)
                memcpy(out + (k * QRL_GROUP + r) * 2, row + k * 2, 2);
        else
            for (size_t k = 0; k < n_cols; k++)
                memcpy(out + (k * QRL_GROUP + r) * 4, row + k * 4, 4);
    }
}

/* From values back to what is stored: the sum with the offset, or the index in the table. */
typedef struct stored_map {
    int offset;
    bool by_index;
    unsigned char index[256]; /* of value - 128 */
} stored_map;

static void make_stored_map(const qrl_pack *p, stored_map *map) {
    static const int8_t luts[][16] = {[QRL_LUT_NL4] = {QRL_LUT_NL4_VALUES}, [QRL_LUT_FP4] = {QRL_LUT_FP4_VALUES}};
    map->offset = p->offset;
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

void qrl_pack_group(qrl_type type, const unsigned char *data, size_t n_rows, size_t n_cols, size_t first_row,
                    unsigned char *out) {
    const qrl_pack *p = qrl_pack_of(type);
    if (!p) {
        pack_float(type, data, n_rows, n_cols, first_row, out);
        return;
    }
    const qrl_traits *t = qrl_quant_traits(type);
    const size_t row_bytes = qrl_row_bytes(type, n_cols);
    const size_t supers = n_cols / (p->units * QRL_UNIT), bytes = super_bytes(p);
    const size_t rows = n_rows - first_row < QRL_GROUP ? n_rows - first_row : QRL_GROUP;
    stored_map map = {0};
    make_stored_map(p, &map);
    if (rows < QRL_GROUP)
        memset(out, 0, supers * bytes);
    for (size_t s = 0; s < supers; s++, out += bytes)
        for (size_t r = 0; r < rows; r++) {
            const unsigned char *row = data + (first_row + r) * row_bytes;
            const size_t first = s * p->units;
            for (size_t u = 0; u < p->units; u++) {
                qrl_qunit q;
                unsigned char stored[QRL_UNIT];
                t->unpack(row, first + u, &q);
                store(&map, q.q, stored);
                put_row[p->planes](stored, r, out + qrl_head_bytes(p->head) + u * qrl_planes_bytes(p->planes));
                if (u == 0)
                    put_head(p, type, row + first * QRL_UNIT / t->block_values * t->block_bytes, &q, r, out);
            }
        }
}
