/* The matrix product of packed weights, written once over the vectors of vec_*.h and instantiated for
 * each layout: a small unpacker (chunk, scales) whose choices are constants at compile time, and two loops
 * over it. Few rows of activations meet weights as they are unpacked (gemm_rows); tiles of the widest meet a
 * panel (kernels.h), unpacked once for all of them (product_rows; with AMX amx_impl.h). Include once an instruction
 * set, after its vec header. */
#include "cpu/kernels/unroll.h"
#include "cpu/pack.h"

/* Bits and value of 1.5 * 2^23: as far as 2^22 to either side, integers and floats count alike. */
enum {
    MAGIC = 0x4b400000,
    TILE = HAVE_TILES ? 16 : 8, /* rows of the widest tile */
    PRODUCT_TILE = 4            /* of them that product_rows takes at a time */
};
#define MAGIC_FLOAT 12582912.0f

static const int8_t lut_values[][16] = {
    [QRL_LUT_NL4] = {QRL_LUT_NL4_VALUES},
    [QRL_LUT_FP4] = {QRL_LUT_FP4_VALUES},
};

/* Chunk c of a unit for the vector of rows at byte `at` (0, or 32 for the upper half on AVX2): the
 * stored bytes u of VR rows by 4 values. */
INLINE vi chunk(int planes, int lut, vi table, const unsigned char *unit, size_t at, int c) {
    const vi m4 = vi_set8(15), m2 = vi_set8(3);
    vi u;
    if (planes == 8)
        return vi_load(unit + 64 * c + at);
    if (planes == 4 || planes == 41 || planes == 42) {
        const vi v = vi_load(unit + 64 * (c % 4) + at);
        u = vi_and(c < 4 ? v : vi_srl16(v, 4), m4);
        if (lut != QRL_LUT_NONE)
            u = vi_shuffle(table, u);
        if (planes == 41) {
            const vi h = vi_load(unit + 256 + at);
            u = vi_or(u, vi_and(c < 4 ? vi_sll16(h, 4 - c) : vi_srl16(h, c - 4), vi_set8(16)));
        } else if (planes == 42) {
            const vi h = vi_load(unit + 256 + 64 * (c / 4) + at);
            const int i = c % 4;
            u = vi_or(u, vi_and(i < 2 ? vi_sll16(h, 4 - 2 * i) : vi_srl16(h, 2 * i - 4), vi_set8(48)));
        }
        return u;
    }
    u = vi_and(vi_srl16(vi_load(unit + 64 * (c / 4) + at), 2 * (c % 4)), m2);
    if (planes == 21) {
        const vi h = vi_load(unit + 128 + at);
        u = vi_or(u, vi_and(c < 2 ? vi_sll16(h, 2 - c) : vi_srl16(h, c - 2), vi_set8(4)));
    }
    return u;
}

/* Integer scales as the products take them: twice as 16 bits where these are madd16, else as floats. */
INLINE vf steps_u8(const unsigned char *p) {
    return HAVE_DPBUSD ? vf_cvt(vi_u8(p)) : vf_bits(vi_twice_u8(p));
}
INLINE vf steps_s8(const unsigned char *p) {
    return HAVE_DPBUSD ? vf_cvt(vi_s8(p)) : vf_bits(vi_twice_s8(p));
}
INLINE vf steps_nibble(const unsigned char *p) {
    return HAVE_DPBUSD ? vf_cvt(vi_nibble(p, 0)) : vf_bits(vi_and(vi_twice_u8(p), vi_set16(15)));
}

/* Scales (of stepped types the integers, see above) and minima of unit u of a superblock, for rows from r on. */
INLINE void scales(qrl_head head, const unsigned char *p, size_t u, size_t r, vf d, vf dmin, vf *s, vf *m) {
    enum { G = QRL_GROUP };
    switch (head) {
    case QRL_HEAD_D:
        s[0] = d;
        return;
    case QRL_HEAD_DM:
        s[0] = d;
        m[0] = vf_sub(vf_set(-0.0f), dmin);
        return;
    case QRL_HEAD_E8:
        s[0] = vf_e8(p + r);
        return;
    case QRL_HEAD_KM:
        s[0] = steps_u8(p + 4 * G + u * G + r);
        m[0] = vf_mul(dmin, vf_cvt(vi_u8(p + 12 * G + u * G + r)));
        return;
    case QRL_HEAD_KM16:
        for (size_t i = 0; i < 2; i++) {
            s[i] = steps_nibble(p + 4 * G + (2 * u + i) * G + r);
            m[i] = vf_mul(dmin, vf_cvt(vi_nibble(p + 4 * G + (2 * u + i) * G + r, 1)));
        }
        return;
    case QRL_HEAD_K:
        s[0] = steps_s8(p + 2 * G + u * G + r);
        return;
    case QRL_HEAD_K16:
        for (size_t i = 0; i < 2; i++)
            s[i] = steps_s8(p + 2 * G + (2 * u + i) * G + r);
        return;
    case QRL_HEAD_F32:
        s[0] = vf_load(p + 4 * r);
        return;
    case QRL_HEAD_F32X2:
        s[0] = vf_load(p + 4 * r);
        s[1] = vf_load(p + 4 * G + 4 * r);
        return;
    }
}

INLINE unsigned log2_of(int v) {
    return 31u - (unsigned)__builtin_clz((unsigned)v | 1u);
}

/* Panels of these stepped types hold values times steps, negated, so that a unit is one sum and needs no scale. Where
 * sums of 16 bits are multiplied by the steps on their way to 32, there is nothing to be saved. */
INLINE int multiplied(int planes, qrl_head head) {
    return HAVE_DPBUSD && qrl_steps_fit(planes, head);
}

/* Tile registers multiply panels of one sum a unit. With two there would be twice as many to scale, and VNNI is faster.
 */
INLINE int by_tiles(int planes, qrl_head head) {
    return HAVE_TILES && (!qrl_head_dual(head) || multiplied(planes, head));
}

/* What the values of a table are stored with where few rows meet them: nothing where the sign trick is to meet signed
 * bytes. */
INLINE int table_offset(int offset) {
    return !HAVE_DPBUSD && offset == 128 ? 0 : offset;
}

/* Asks for the next bytes of a stream at p. */
INLINE void ask(const unsigned char *p, size_t bytes, const qrl_ahead *ahead) {
    const unsigned char *near = p + ahead->near, *far = p + ahead->far;
    const bool many = bytes > 320; /* gcc would keep the places of all lines, most of them in memory */
    if (many)
        OPAQUE(near);
    UNROLL
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(near + b, 0, 3);
    if (!ahead->far)
        return;
    if (many)
        OPAQUE(far);
    UNROLL
    for (size_t b = 0; b < bytes; b += 64)
        __builtin_prefetch(far + b, 0, 2);
}

/* The offset that weights have in a panel: what the activations' n is made for. */
INLINE int panel_offset(int offset, int dual) {
    return offset == 0 || offset == 128 ? offset : HAVE_DPBUSD ? 128 : dual ? QRL_OFFSET_HALF : QRL_OFFSET_UNIT;
}

/* Minus the offset times a sum of activations: where products of offset weights begin, in 32 bits with VNNI, else
 * in 16. */
INLINE vi offset_sum(const unsigned char *n, int offset, int dual) {
    if (HAVE_DPBUSD) /* MAGIC - 128 * the sum */
        return vi_sra32(vi_sub32(vi_bcast32(n), vi_set32(MAGIC)), 7 - log2_of(offset));
    const unsigned shift = log2_of(panel_offset(offset, dual)) - log2_of(offset);
    return shift ? vi_sra16(vi_bcast32(n), shift) : vi_bcast32(n);
}

/* Products of chunk c in pairs of 16 bits to the sums of such, and every `sums` chunks these, times the integers `by`,
 * to 32 bits, which begin anew every `chain` chunks. begun: the sums of 16 bits have begun, with the part of an offset.
 * KEEP: gcc makes trees of long sums. */
INLINE void add_pairs(vi *sum, vi *sum16, vi pairs, vi by, int c, int sums, int chain, int begun) {
    *sum16 = c % sums == 0 && !begun ? pairs : vi_add16(*sum16, pairs);
    if (sums > 1)
        KEEP(*sum16);
    if (c % sums != sums - 1)
        return;
    const vi whole = vi_madd16(*sum16, by);
    *sum = c % chain == sums - 1 ? whole : vi_add32(*sum, whole);
    KEEP(*sum);
}

/* V vectors of rows (from row r of the group) by T activation rows.
 *
 * Without VNNI the products of bytes are summed in 16 bits as long as the result fits: `sums` chunks of 2
 * products. Where weights have an offset its part is there from the start, so that what counts is the
 * weights' magnitude (what overflows on the way comes back). Bytes above 127 take the sign trick instead,
 * in which the weight's sign moves to the activation. Integer scales (stepped types) are what the sums are multiplied
 * by on their way to 32 bits; a superblock's units then have sums of floats of their own. */
INLINE void gemm_rows(int planes, int offset, int lut, qrl_head head, int units, int T, int V,
                      const unsigned char *group, size_t n_units, qrl_ahead ahead, const unsigned char *tile,
                      float *out, size_t out_stride, size_t r) {
    enum { MAX_V = QRL_GROUP / VR };
    const int dual = qrl_head_dual(head);
    const int has_min = qrl_head_has_min(head);
    const int half_d = qrl_head_f16(head), stepped = qrl_head_stepped(head), steps16 = stepped && !HAVE_DPBUSD;
    const int bytes8 = offset == 128;
    const int sums = qrl_sums_of_16_bits(planes, offset, lut, head), chain = dual && !steps16 ? 4 : 8; /* chunks */
    const int use_offset = offset && (HAVE_DPBUSD || !bytes8);
    const size_t unit_bytes = qrl_planes_bytes(planes), head_bytes = qrl_head_bytes(head);
    const vi table =
        lut == QRL_LUT_NONE ? vi_zero() : vi_add8(vi_lut(lut_values[lut]), vi_set8((char)table_offset(offset)));
    vf acc[QRL_TILE_MAX][MAX_V];
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < V; v++)
            acc[t][v] = vf_zero();
    }
    for (size_t done = 0; done < n_units; done += (size_t)units) {
        vf d[MAX_V] = {vf_zero()}, dmin[MAX_V] = {vf_zero()}, part[QRL_TILE_MAX][MAX_V];
        UNROLL
        for (int t = 0; t < T; t++) {
            UNROLL
            for (int v = 0; v < V; v++)
                part[t][v] = vf_zero();
        }
        UNROLL
        for (int v = 0; v < V && half_d; v++) {
            d[v] = vf_f16(group + 2 * (r + (size_t)v * VR));
            dmin[v] = has_min ? vf_f16(group + 32 + 2 * (r + (size_t)v * VR)) : vf_zero();
        }
        const unsigned char *unit = group + head_bytes;
        for (size_t u = 0; u < (size_t)units; u++, unit += unit_bytes, tile += QRL_QACT_BYTES(T)) {
            /* one register each, and places as constants: gcc would carry ten pointers through the loop */
            OPAQUE(unit);
            OPAQUE(tile);
            if (r == 0)
                ask(unit, unit_bytes, &ahead);
            vf s[MAX_V][2], m[MAX_V][2], y[QRL_TILE_MAX][MAX_V];
            vi isum[QRL_TILE_MAX][MAX_V], isum16[QRL_TILE_MAX][MAX_V];
            UNROLL
            for (int v = 0; v < V; v++)
                scales(head, group, u, r + (size_t)v * VR, d[v], dmin[v], s[v], m[v]);
            UNROLL
            for (int c = 0; c < 8; c++) {
                if (c == 0 || (dual && c == 4))
                    UNROLL
                for (int t = 0; t < T; t++) {
                    const unsigned char *n = QRL_QACT_N(tile, T, dual ? 1 + c / 4 : 0) + 4 * t;
                    UNROLL
                    for (int v = 0; v < V; v++) {
                        isum16[t][v] = use_offset ? offset_sum(n, offset, dual) : vi_zero();
                        if (HAVE_DPBUSD || c == 0)
                            isum[t][v] = isum16[t][v];
                    }
                }
                UNROLL
                for (int v = 0; v < V; v++) {
                    const vi w = chunk(planes, lut, table, unit, 4 * (r + (size_t)v * VR), c);
                    /* signed bytes for the sign trick: tables hold them so, Q8 is stored with its offset */
                    const vi ws = HAVE_DPBUSD || !bytes8 || lut != QRL_LUT_NONE ? w : vi_xor(w, vi_set8((char)128));
                    const vi wa = HAVE_DPBUSD || !bytes8 ? w : vi_abs8(ws);
                    UNROLL
                    for (int t = 0; t < T; t++) {
                        const vi a = vi_bcast32(tile + 32 * t + 4 * c);
                        if (HAVE_DPBUSD)
                            isum[t][v] = vi_dpbusd(isum[t][v], w, a);
                        else {
                            const vi p = vi_maddubs(wa, bytes8 ? vi_sign8(a, ws) : a);
                            const vi by = steps16 ? vi_bits(s[v][dual && c > 3]) : vi_set16(1);
                            add_pairs(&isum[t][v], &isum16[t][v], p, by, c, sums, chain, use_offset);
                        }
                    }
                }
                if (dual && !steps16 && c == 3)
                    UNROLL
                for (int t = 0; t < T; t++) {
                    UNROLL
                    for (int v = 0; v < V; v++)
                        y[t][v] = vf_mul(vf_cvt(isum[t][v]), s[v][0]);
                }
            }
            UNROLL
            for (int t = 0; t < T; t++) {
                UNROLL
                for (int v = 0; v < V; v++) {
                    const vf f = vf_cvt(isum[t][v]), a = vf_bcast(QRL_QACT_D(tile, T) + 4 * t);
                    y[t][v] = steps16 ? f : dual ? vf_fma(f, s[v][1], y[t][v]) : vf_mul(f, s[v][0]);
                    vf *const to = stepped ? &part[t][v] : &acc[t][v];
                    *to = vf_fma(y[t][v], a, *to);
                    if (has_min)
                        acc[t][v] = vf_fnma(m[v][0], vf_bcast(QRL_QACT_S(tile, T, dual ? 1 : 0) + 4 * t), acc[t][v]);
                    if (has_min && dual)
                        acc[t][v] = vf_fnma(m[v][1], vf_bcast(QRL_QACT_S(tile, T, 2) + 4 * t), acc[t][v]);
                }
            }
        }
        UNROLL
        for (int t = 0; t < T; t++) {
            UNROLL
            for (int v = 0; stepped && v < V; v++)
                acc[t][v] = vf_fma(part[t][v], d[v], acc[t][v]);
        }
        group = unit;
    }
    UNROLL
    for (int t = 0; t < T; t++) {
        UNROLL
        for (int v = 0; v < V; v++)
            vf_store(out + (size_t)t * out_stride + r + (size_t)v * VR, acc[t][v]);
    }
}

/* ---- panels ---- */

/* base - (u - offset) s of bytes u and the integers s of their lanes. */
INLINE vi multiply_bytes(vi u, int offset, vf s, int base) {
    const vi i = vi_cvt(s), by = vi_or(vi_and(i, vi_set32(0xffff)), vi_sll32(i, 16)), low = vi_set16(255);
    const vi from = vi_add16(vi_set16((short)base), vi_mul16(by, vi_set16((short)offset)));
    const vi even = vi_sub16(from, vi_mul16(vi_and(u, low), by)), odd = vi_sub16(from, vi_mul16(vi_srl16(u, 8), by));
    return vi_or(vi_and(even, low), vi_sll16(odd, 8));
}

/* Units [first, first + n) of a group into half `half` of a panel. Offsets become the one that the activations' n is
 * made for, and nothing for tile registers and the sign trick, which have products of signed bytes. */
INLINE void unpack_rows(int planes, int offset, int lut, qrl_head head, int units, const unsigned char *group,
                        size_t first, size_t n, size_t half, qrl_panel *out) {
    const int dual = qrl_head_dual(head);
    const int has_min = qrl_head_has_min(head);
    const int half_d = qrl_head_f16(head), stepped = qrl_head_stepped(head);
    const size_t unit_bytes = qrl_planes_bytes(planes), head_bytes = qrl_head_bytes(head);
    const bool whole = multiplied(planes, head), tiles = by_tiles(planes, head);
    const int stored = lut == QRL_LUT_NONE ? offset : tiles ? 0 : table_offset(offset);
    const int wanted = tiles || (!HAVE_DPBUSD && offset == 128) ? 0 : panel_offset(whole ? 128 : offset, dual);
    const vi table = lut == QRL_LUT_NONE ? vi_zero() : vi_add8(vi_lut(lut_values[lut]), vi_set8((char)stored));
    group += first / (size_t)units * (head_bytes + (size_t)units * unit_bytes);
    for (size_t u = 0; u < n; u++) {
        const size_t in = u % (size_t)units;
        const unsigned char *unit = group + head_bytes + in * unit_bytes;
        for (size_t r = 0; r < QRL_GROUP; r += VR) {
            const size_t row = half * QRL_GROUP + r;
            vf d = vf_zero(), dmin = vf_zero(), s[2] = {vf_zero(), vf_zero()}, m[2] = {vf_zero(), vf_zero()};
            if (half_d) {
                d = vf_f16(group + 2 * r);
                if (has_min)
                    dmin = vf_f16(group + 32 + 2 * r);
            }
            scales(head, group, in, r, d, dmin, s, m);
            if (stepped)
                vf_store(out->super + row, d);
            if (!whole) {
                vf_store(out->scale[u][0] + row, s[0]);
                if (dual)
                    vf_store(out->scale[u][1] + row, s[1]);
                if (HAVE_DPBUSD && half_d)
                    vf_store(out->base[u] + row, vf_mul(s[0], vf_set(-MAGIC_FLOAT)));
            }
            if (has_min)
                vf_store(out->min[u][0] + row, m[0]);
            if (has_min && dual)
                vf_store(out->min[u][1] + row, m[1]);
            UNROLL
            for (int c = 0; c < 8; c++) {
                vi w = chunk(planes, lut, table, unit, 4 * r, c);
                if (whole)
                    w = multiply_bytes(w, stored, s[c / 4], wanted);
                else if (wanted != stored)
                    w = vi_add8(w, vi_set8((char)(wanted - stored)));
                vi_store(out->q[u][half] + 64 * c + 4 * r, w);
            }
        }
        if (in + 1 == (size_t)units)
            group += head_bytes + (size_t)units * unit_bytes;
    }
}

/* The end of a superblock of a stepped type, for S rows of a tile (from row t0 on) by V vectors of rows (from row r of
 * the panel on): its minima to acc_out, then the sums of its units by its scale. n_units is QRL_PANEL_UNITS, but as a
 * constant it would unroll the minima into hundreds of instructions. */
INLINE void add_superblock(qrl_head head, const qrl_panel *p, size_t n_units, const unsigned char *tile, size_t t0,
                           size_t S, size_t r, size_t V, const vf *sums, float *acc_out, size_t ld, bool first) {
    enum { MOST = 8 };
    const size_t halves = qrl_head_dual(head) ? 2 : 1;
    vf acc[MOST];
    UNROLL
    for (size_t i = 0; i < S * V; i++)
        acc[i] = first ? vf_zero() : vf_load(acc_out + (t0 + i / V) * ld + r + i % V * VR);
    for (size_t u = 0; qrl_head_has_min(head) && u < n_units; u++, tile += QRL_QACT_BYTES(TILE)) {
        UNROLL
        for (size_t half = 0; half < halves; half++) {
            UNROLL
            for (size_t i = 0; i < S * V; i++) {
                const vf sum = vf_bcast(QRL_QACT_S(tile, TILE, halves - 1 + half) + 4 * (t0 + i / V));
                acc[i] = vf_fnma(vf_load(p->min[u][half] + r + i % V * VR), sum, acc[i]);
            }
        }
    }
    UNROLL
    for (size_t i = 0; i < S * V; i++)
        vf_store(acc_out + (t0 + i / V) * ld + r + i % V * VR,
                 vf_fma(sums[i], vf_load(p->super + r + i % V * VR), acc[i]));
}

#if HAVE_TILES
#include "cpu/kernels/amx_impl.h"
#define IF_TILES(...) __VA_ARGS__
#else
#define IF_TILES(...)
#endif

/* The next tile comes from the second-level cache, in an order that the hardware does not see through: unit `next`. */
INLINE void ask_next(const unsigned char *next, size_t t0, size_t r) {
    UNROLL
    for (size_t b = 0; b < QRL_QACT_BYTES(TILE); b += 64)
        if (b / 256 == t0 / PRODUCT_TILE && r == 0)
            __builtin_prefetch(next + b);
}

INLINE vi panel_chunk(const qrl_panel *p, size_t u, size_t row, int c) {
    return vi_load(p->q[u][row / QRL_GROUP] + 64 * c + 4 * (row % QRL_GROUP));
}

/* Two vectors of rows (from row r of the panel) by PRODUCT_TILE rows of a tile, from row t0 on, with VNNI.
 *
 * A sum begins at MAGIC, whose bits are those of the float 1.5 * 2^23: as a float it then reads MAGIC_FLOAT +
 * sum, exactly. float(sum) * scale is one fma of that with base = -MAGIC_FLOAT * scale, where this product is
 * exact: for scales that are an f16 or a small integer. Else MAGIC_FLOAT is subtracted. Of values times steps, negated,
 * the sum is by how much the float falls short of it. */
INLINE void product_dots(int planes, int offset, qrl_head head, const qrl_panel *p, size_t n_units,
                         const unsigned char *tile, const unsigned char *next, size_t t0, size_t r, float *acc_out,
                         size_t ld, bool first) {
    enum { V = 2, S = PRODUCT_TILE, T = TILE };
    const int whole = multiplied(planes, head), dual = qrl_head_dual(head) && !whole;
    const int has_min = qrl_head_has_min(head);
    const int half_d = qrl_head_f16(head), stepped = qrl_head_stepped(head);
    const unsigned char *const first_unit = tile;
    vf acc[S][V]; /* stepped: of the superblock */
    UNROLL
    for (int t = 0; t < S; t++) {
        UNROLL
        for (int v = 0; v < V; v++)
            acc[t][v] = first || stepped ? vf_zero() : vf_load(acc_out + (t0 + (size_t)t) * ld + r + (size_t)v * VR);
    }
    for (size_t u = 0; u < n_units; u++, tile += QRL_QACT_BYTES(T)) {
        vf y[S][V];
        vi isum[S][V];
        ask_next(next + u * QRL_QACT_BYTES(T), t0, r);
        UNROLL
        for (int c = 0; c < 8; c++) {
            const int half = c / 4;
            if (c == 0 || (dual && c == 4))
                UNROLL
            for (int t = 0; t < S; t++) {
                const unsigned char *n = QRL_QACT_N(tile, T, dual ? 1 + half : 0) + 4 * (t0 + (size_t)t);
                const vi start = offset || whole ? vi_bcast32(n) : vi_set32(MAGIC);
                UNROLL
                for (int v = 0; v < V; v++)
                    isum[t][v] = start;
            }
            vi w[V];
            UNROLL
            for (int v = 0; v < V; v++)
                w[v] = panel_chunk(p, u, r + (size_t)v * VR, c);
            UNROLL
            for (int t = 0; t < S; t++) {
                const vi a = vi_bcast32(tile + 32 * (t0 + (size_t)t) + 4 * c);
                UNROLL
                for (int v = 0; v < V; v++)
                    isum[t][v] = vi_dpbusd(isum[t][v], w[v], a);
            }
            if (dual ? c % 4 == 3 : c == 7)
                UNROLL
            for (int t = 0; t < S; t++) {
                UNROLL
                for (int v = 0; v < V; v++) {
                    if (whole) {
                        y[t][v] = vf_sub(vf_set(MAGIC_FLOAT), vf_bits(isum[t][v]));
                        continue;
                    }
                    const vf s = vf_load(p->scale[u][dual ? half : 0] + r + v * VR);
                    if (half_d && (!dual || half == 0)) {
                        y[t][v] = vf_fma(vf_bits(isum[t][v]), s, vf_load(p->base[u] + r + v * VR));
                        continue;
                    }
                    const vf f = vf_sub(vf_bits(isum[t][v]), vf_set(MAGIC_FLOAT));
                    y[t][v] = dual && half == 1 ? vf_fma(f, s, y[t][v]) : vf_mul(f, s);
                }
            }
        }
        UNROLL
        for (int t = 0; t < S; t++) {
            const size_t at = 4 * (t0 + (size_t)t);
            UNROLL
            for (int v = 0; v < V; v++) {
                acc[t][v] = vf_fma(y[t][v], vf_bcast(QRL_QACT_D(tile, T) + at), acc[t][v]);
                if (has_min && !stepped)
                    acc[t][v] =
                        vf_fnma(vf_load(p->min[u][0] + r + v * VR), vf_bcast(QRL_QACT_S(tile, T, 0) + at), acc[t][v]);
            }
        }
    }
    if (stepped) {
        add_superblock(head, p, n_units, first_unit, t0, S, r, V, acc[0], acc_out, ld, first);
        return;
    }
    UNROLL
    for (int t = 0; t < S; t++) {
        UNROLL
        for (int v = 0; v < V; v++)
            vf_store(acc_out + (t0 + (size_t)t) * ld + r + (size_t)v * VR, acc[t][v]);
    }
}

/* The same without VNNI. Registers are for the sums in 16 bits: those in float stay in memory, and the end of a unit
 * goes step by step for all of them, so that as few instructions as possible wait for others. Of a stepped type the
 * panel is a superblock: its integer scales widen the sums, and the rest is done once behind the units. */
INLINE void product_pairs(int planes, int offset, int lut, qrl_head head, const qrl_panel *p, size_t n_units,
                          const unsigned char *tile, const unsigned char *next, size_t t0, size_t r, float *acc_out,
                          size_t ld, bool first) {
    enum { V = 2, S = PRODUCT_TILE, T = TILE };
    const int dual = qrl_head_dual(head);
    const int has_min = qrl_head_has_min(head), stepped = qrl_head_stepped(head);
    const int bytes8 = offset == 128, use_offset = offset && !bytes8;
    const int sums = qrl_sums_of_16_bits(planes, offset, lut, head), chain = dual ? 4 : 8; /* chunks */
    const unsigned char *const first_unit = tile;
    float *const acc = acc_out + t0 * ld + r;
    vf part[S][V]; /* of the superblock of a stepped type */
    UNROLL
    for (size_t t = 0; t < S; t++) {
        UNROLL
        for (size_t v = 0; v < V; v++) {
            part[t][v] = vf_zero();
            if (first && !stepped)
                vf_store(acc + t * ld + v * VR, vf_zero());
        }
    }
    for (size_t u = 0; u < n_units; u++, tile += QRL_QACT_BYTES(T)) {
        vf y[S][V], s[V];
        vi isum[S][V], isum16[S][V], by[V];
        ask_next(next + u * QRL_QACT_BYTES(T), t0, r);
        UNROLL
        for (int c = 0; c < 8; c++) {
            const int half = c / 4;
            if (use_offset && c % chain == 0)
                UNROLL
            for (size_t t = 0; t < S; t++) {
                const vi start = vi_bcast32(QRL_QACT_N(tile, T, dual ? 1 + half : 0) + 4 * (t0 + t));
                UNROLL
                for (int v = 0; v < V; v++)
                    isum16[t][v] = start;
            }
            vi w[V], wa[V];
            UNROLL
            for (size_t v = 0; v < V; v++) {
                w[v] = panel_chunk(p, u, r + v * VR, c);
                wa[v] = bytes8 ? vi_abs8(w[v]) : w[v];
                by[v] = stepped ? vi_load(p->scale[u][dual ? half : 0] + r + v * VR) : vi_set16(1);
            }
            UNROLL
            for (size_t t = 0; t < S; t++) {
                const vi a = vi_bcast32(tile + 32 * (t0 + t) + 4 * c);
                UNROLL
                for (int v = 0; v < V; v++) {
                    const vi pr = vi_maddubs(wa[v], bytes8 ? vi_sign8(a, w[v]) : a);
                    add_pairs(&isum[t][v], &isum16[t][v], pr, by[v], c, sums, stepped ? 8 : chain, use_offset);
                }
            }
            if (stepped || c % chain != chain - 1)
                continue;
            UNROLL
            for (size_t v = 0; v < V; v++)
                s[v] = vf_load(p->scale[u][dual ? half : 0] + r + v * VR);
            UNROLL
            for (int t = 0; t < S; t++) {
                UNROLL
                for (int v = 0; v < V; v++) {
                    const vf f = vf_cvt(isum[t][v]);
                    y[t][v] = dual && half == 1 ? vf_fma(f, s[v], y[t][v]) : vf_mul(f, s[v]);
                }
            }
        }
        UNROLL
        for (size_t t = 0; t < S; t++) {
            const vf d = vf_bcast(QRL_QACT_D(tile, T) + 4 * (t0 + t));
            UNROLL
            for (size_t v = 0; v < V; v++) {
                if (stepped)
                    part[t][v] = vf_fma(vf_cvt(isum[t][v]), d, part[t][v]);
                else
                    y[t][v] = vf_fma(y[t][v], d, vf_load(acc + t * ld + v * VR));
            }
        }
        if (stepped)
            continue;
        UNROLL
        for (size_t v = 0; has_min && v < V; v++)
            s[v] = vf_load(p->min[u][0] + r + v * VR);
        UNROLL
        for (size_t t = 0; t < S; t++) {
            const vf sum = vf_bcast(QRL_QACT_S(tile, T, 0) + 4 * (t0 + t));
            UNROLL
            for (size_t v = 0; v < V; v++)
                vf_store(acc + t * ld + v * VR, has_min ? vf_fnma(s[v], sum, y[t][v]) : y[t][v]);
        }
    }
    if (stepped)
        add_superblock(head, p, n_units, first_unit, t0, S, r, V, part[0], acc_out, ld, first);
}

INLINE void product_rows(int planes, int offset, int lut, qrl_head head, const qrl_panel *p, size_t n,
                         const unsigned char *tile, const unsigned char *next, size_t t0, size_t r, float *acc,
                         size_t ld, bool first) {
    if (HAVE_DPBUSD)
        product_dots(planes, offset, head, p, n, tile, next, t0, r, acc, ld, first);
    else
        product_pairs(planes, offset, lut, head, p, n, tile, next, t0, r, acc, ld, first);
}

/* A panel by a tile of the widest. No loop: gcc then knows all places soon enough to address them by one register and
 * a constant, and has more registers for sums. */
INLINE void product(int planes, int offset, int lut, qrl_head head, const qrl_panel *p, size_t n,
                    const unsigned char *tile, const unsigned char *next, float *acc, size_t ld, bool first) {
    enum { T1 = PRODUCT_TILE, T2 = 2 * T1, T3 = 3 * T1, R1 = 2 * VR };
#if HAVE_TILES
    if (by_tiles(planes, head)) {
        product_by_tiles(planes, head, p, n, tile, next, acc, ld, first);
        return;
    }
#endif
    product_rows(planes, offset, lut, head, p, n, tile, next, 0, 0, acc, ld, first);
    product_rows(planes, offset, lut, head, p, n, tile, next, T1, 0, acc, ld, first);
    if (T2 < (int)TILE) {
        product_rows(planes, offset, lut, head, p, n, tile, next, T2, 0, acc, ld, first);
        product_rows(planes, offset, lut, head, p, n, tile, next, T3, 0, acc, ld, first);
    }
    if (R1 < (int)QRL_PANEL_ROWS) {
        product_rows(planes, offset, lut, head, p, n, tile, next, 0, R1, acc, ld, first);
        product_rows(planes, offset, lut, head, p, n, tile, next, T1, R1, acc, ld, first);
    }
}

/* ---- float types ---- */

INLINE vf float_row(qrl_type type, const unsigned char *p) {
    return type == QRL_F32 ? vf_load(p) : type == QRL_F16 ? vf_f16(p) : vf_bf16(p);
}

/* T activation rows by the rows of G groups: every sum is a chain of its own along k, so that few rows want several
 * groups at a time. */
INLINE void gemm_float_rows(qrl_type type, size_t T, size_t G, const qrl_groups *w, const unsigned char *group,
                            const float *x, float *out, size_t out_stride) {
    enum { V = QRL_GROUP / VR };
    const size_t size = type == QRL_F32 ? 4 : 2, each_line = size == 2 ? 2 : 1, bytes = w->bytes;
    const qrl_ahead ahead = w->ahead;
    vf acc[QRL_TILE_MAX * V];
    UNROLL
    for (size_t i = 0; i < T * G * V; i++)
        acc[i] = vf_zero();
    UNROLL4
    for (size_t k = 0; k < w->n; k++, group += QRL_GROUP * size, x += T) {
        vf y[2 * V];
        if (k % each_line == 0)
            UNROLL
        for (size_t g = 0; g < G; g++)
            ask(group + g * bytes, 64, &ahead);
        UNROLL
        for (size_t v = 0; v < G * V; v++)
            y[v] = float_row(type, group + v / V * bytes + v % V * VR * size);
        UNROLL
        for (size_t t = 0; t < T; t++) {
            const vf a = vf_bcast(x + t);
            UNROLL
            for (size_t v = 0; v < G * V; v++)
                acc[t * G * V + v] = vf_fma(y[v], a, acc[t * G * V + v]);
        }
    }
    UNROLL
    for (size_t t = 0; t < T; t++) {
        UNROLL
        for (size_t v = 0; v < G * V; v++)
            vf_store(out + t * out_stride + v * VR, acc[t * G * V + v]);
    }
}

INLINE void unpack_floats(qrl_type type, const unsigned char *group, size_t first, size_t n, size_t half,
                          qrl_panel *out) {
    const size_t size = type == QRL_F32 ? 4 : 2;
    group += first * QRL_GROUP * size;
    for (size_t k = 0; k < n; k++, group += QRL_GROUP * size)
        for (size_t r = 0; r < QRL_GROUP; r += VR)
            vf_store(out->values[k] + half * QRL_GROUP + r, float_row(type, group + r * size));
}

/* Two vectors of rows by S rows of a tile: 16 accumulators, or 8 of the 16 registers of AVX2. */
static void product_floats(const qrl_panel *p, size_t n, const void *tile, const void *next, float *acc_out, size_t ld,
                           bool first) {
    enum { V = 2, S = VR == 8 ? 4 : 8, T = TILE };
    for (size_t r = 0; r < QRL_PANEL_ROWS; r += V * VR)
        for (size_t t0 = 0; t0 < T; t0 += S) {
            const float *x = (const float *)tile + t0;
            float *out = acc_out + t0 * ld + r;
            vf acc[S][V];
            UNROLL
            for (size_t t = 0; t < S; t++) {
                UNROLL
                for (size_t v = 0; v < V; v++)
                    acc[t][v] = first ? vf_zero() : vf_load(out + t * ld + v * VR);
            }
            UNROLL4
            for (size_t k = 0; k < n; k++, x += T) {
                if (k % (16 / T) == 0 && t0 == 0 && r == 0) /* once a line */
                    __builtin_prefetch((const float *)next + k * T);
                const vf w0 = vf_load(p->values[k] + r), w1 = vf_load(p->values[k] + r + VR);
                UNROLL
                for (size_t t = 0; t < S; t++) {
                    const vf a = vf_bcast(x + t);
                    acc[t][0] = vf_fma(w0, a, acc[t][0]);
                    acc[t][1] = vf_fma(w1, a, acc[t][1]);
                }
            }
            UNROLL
            for (size_t t = 0; t < S; t++) {
                UNROLL
                for (size_t v = 0; v < V; v++)
                    vf_store(out + t * ld + v * VR, acc[t][v]);
            }
        }
}

/* ---- one of each for every layout ---- */

#define NONE QRL_LUT_NONE
#define NL4  QRL_LUT_NL4
#define FP4  QRL_LUT_FP4
#define GEMM_ONE(name, planes, offset, lut, head, units, T)                                                            \
    static void gemm_##name##_##T(const qrl_groups *w, const void *tile, float *out, size_t out_stride) {              \
        enum { V = T <= 2 ? QRL_GROUP / VR : 1 };                                                                      \
        const unsigned char *group = w->data;                                                                          \
        for (size_t g = 0; g < w->count; g++, group += w->bytes, out += QRL_GROUP)                                     \
            for (size_t r = 0; r < QRL_GROUP; r += V * VR)                                                             \
                gemm_rows(planes, offset, lut, head, units, T, V, group, w->n, w->ahead, tile, out, out_stride, r);    \
    }
#define GEMM_LAYOUT(name, planes, offset, lut, head, units)                                                            \
    GEMM_ONE(name, planes, offset, lut, head, units, 1)                                                                \
    GEMM_ONE(name, planes, offset, lut, head, units, 2)                                                                \
    GEMM_ONE(name, planes, offset, lut, head, units, 4)                                                                \
    IF_TILES(                                                                                                          \
        GEMM_ONE(name, planes, offset, lut, head, units, 8) static void begin_##name(void) {                           \
            if (by_tiles(planes, head))                                                                                \
                begin_tiles();                                                                                         \
        } static void end_##name(void) {                                                                               \
            if (by_tiles(planes, head))                                                                                \
                end_tiles();                                                                                           \
        })                                                                                                             \
    static void unpack_##name(const unsigned char *group, size_t first, size_t n, size_t half, qrl_panel *out) {       \
        unpack_rows(planes, offset, lut, head, units, group, first, n, half, out);                                     \
    }                                                                                                                  \
    static void product_##name(const qrl_panel *p, size_t n, const void *tile, const void *next, float *acc,           \
                               size_t ld, bool first) {                                                                \
        product(planes, offset, lut, head, p, n, tile, next, acc, ld, first);                                          \
    }
QRL_LAYOUTS(GEMM_LAYOUT)

#define GEMM_FLOAT_ONE(type, T)                                                                                        \
    static void gemm_##type##_##T(const qrl_groups *w, const void *tile, float *out, size_t out_stride) {              \
        size_t g = 0;                                                                                                  \
        for (; T <= 2 && g + 2 <= w->count; g += 2)                                                                    \
            gemm_float_rows(QRL_##type, T, 2, w, w->data + g * w->bytes, tile, out + g * QRL_GROUP, out_stride);       \
        for (; g < w->count; g++)                                                                                      \
            gemm_float_rows(QRL_##type, T, 1, w, w->data + g * w->bytes, tile, out + g * QRL_GROUP, out_stride);       \
    }
#define GEMM_FLOAT(type)                                                                                               \
    GEMM_FLOAT_ONE(type, 1)                                                                                            \
    GEMM_FLOAT_ONE(type, 2)                                                                                            \
    GEMM_FLOAT_ONE(type, 4)                                                                                            \
    IF_TILES(GEMM_FLOAT_ONE(type, 8))                                                                                  \
    static void unpack_##type(const unsigned char *group, size_t first, size_t n, size_t half, qrl_panel *out) {       \
        unpack_floats(QRL_##type, group, first, n, half, out);                                                         \
    }
GEMM_FLOAT(F32)
GEMM_FLOAT(F16)
GEMM_FLOAT(BF16)

#define GEMM_FEW(name)                                                                                                 \
    { gemm_##name##_1, gemm_##name##_2, gemm_##name##_4, IF_TILES(gemm_##name##_8) }
#define GEMM_ROW(type, name)                                                                                           \
    [QRL_##type] = {.rows = GEMM_FEW(name),                                                                            \
                    .unpack = unpack_##name,                                                                           \
                    .product = product_##name,                                                                         \
                    IF_TILES(.begin = begin_##name, .end = end_##name)},
#define FLOAT_ROW(type) [QRL_##type] = {.rows = GEMM_FEW(type), .unpack = unpack_##type, .product = product_floats},
const qrl_gemm KERNEL(gemm)[QRL_TYPE_COUNT] = {FLOAT_ROW(F32) FLOAT_ROW(F16) FLOAT_ROW(BF16) QRL_PACKS(GEMM_ROW)};
