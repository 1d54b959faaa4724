/* Attention over one page of 32 positions; the arithmetic is that of scalar.c's attend_row. Scores: the
 * lanes are positions. Values: the lanes are dimensions. Some query rows at a time share the loads of keys
 * and values; how many follows from the registers, and changes no bit. Halves become floats on the way into the
 * registers where few rows use them, else once for all. What the next page holds is asked for meanwhile: pages of a
 * head lie too far apart for the processor to foresee. */
enum {
    SCORE_VECTORS = QRL_PAGE / VR,
    TILE_SUMS = VR == 16 ? 16 : 12,            /* rows by vectors of sums in registers, of 32 or 16 */
    DIRECT_ROWS = VR == 16 ? 8 : QRL_ATTN_ROWS /* halves are converted as they are read for so many rows at most */
};

#include "cpu/kernels/attend_q8_impl.h"

/* Keys or values of a page as the loops read them. */
typedef struct KERNEL(part) {
    qrl_kv_type type; /* F32 or F16 */
    const void *data;
    const unsigned char *next; /* the same of the next page; or NULL */
    size_t next_step;          /* its bytes a dimension */
} KERNEL(part);

INLINE vf load_part(qrl_kv_type type, const void *data, size_t i) {
    return type == QRL_KV_F16 ? vf_f16((const uint16_t *)data + i) : vf_load((const float *)data + i);
}

/* p[r][j] = (q[r] . k[j]) * scale for R rows, whatever of the page they see; V vectors of positions at a time. */
INLINE void scores(const qrl_attend *a, const KERNEL(part) * k, qrl_kv_type type, size_t first, int R, int V,
                   float (*p)[QRL_PAGE]) {
    const bool ask = first == 0 && k->next;
    const size_t step = k->next_step / (size_t)(SCORE_VECTORS / V);
    const unsigned char *next = ask ? k->next : (const unsigned char *)a->q;
    for (int from = 0; from < SCORE_VECTORS; from += V) {
        vf s[TILE_SUMS];
        UNROLL
        for (int i = 0; i < R * V; i++)
            s[i] = vf_zero();
        UNROLL4
        for (size_t d = 0; d < a->k_dim; d++) {
            vf x[SCORE_VECTORS];
            UNROLL
            for (int v = 0; v < V; v++)
                x[v] = load_part(type, k->data, d * QRL_PAGE + (size_t)((from + v) * VR));
            if (ask) {
                ask_for(next, a->far);
                next += step;
            }
            UNROLL
            for (int r = 0; r < R; r++) {
                const vf q = vf_bcast(a->q + d * QRL_ATTN_ROWS + first + (size_t)r);
                UNROLL
                for (int v = 0; v < V; v++)
                    s[r * V + v] = vf_fma(q, x[v], s[r * V + v]);
            }
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            UNROLL
            for (int v = 0; v < V; v++)
                vf_store(p[first + (size_t)r] + (from + v) * VR, vf_mul(s[r * V + v], vf_set(a->scale)));
        }
    }
}

/* N vectors of scores, `stride` floats apart, none above its maximum, to e^(score - max), as lane_exp or (coarse)
 * lane_exp_coarse; `each` of them share a maximum. The steps of several vectors go side by side: each waits for the one
 * before, and the processor does not look far enough ahead to find the next vector's. */
INLINE void exp_vectors(bool coarse, float *p, size_t stride, const vf *max, int each, int N) {
    enum { MOST = 2 * SCORE_VECTORS };
    static const float fine[] = {1.98412698e-4f, 1.38888889e-3f, 8.33333333e-3f, 4.16666667e-2f,
                                 1.66666667e-1f, 0.5f,           1.0f,           1.0f};
    static const float rough[8] = {COARSE_3, COARSE_2, COARSE_1, 1.0f};
    const float *poly = coarse ? rough : fine;
    const vf magic = vf_set(12582912.0f);
    vf y[MOST], r[MOST], e[MOST];
    UNROLL
    for (int i = 0; i < N; i++) {
        r[i] = vf_max(vf_set(-87.0f), vf_sub(vf_load(p + (size_t)i * stride), max[i / each]));
        y[i] = vf_fma(r[i], vf_set(1.44269504f), magic);
    }
    UNROLL
    for (int i = 0; i < N; i++) {
        if (coarse)
            r[i] = vf_fma(r[i], vf_set(1.44269504f), vf_sub(magic, y[i]));
        else {
            const vf n = vf_sub(y[i], magic);
            r[i] = vf_fma(n, vf_set(-1.42860677e-6f), vf_fma(n, vf_set(-0.693145752f), r[i]));
        }
        e[i] = vf_set(poly[0]);
    }
    UNROLL
    for (int k = 1; k < 8; k++) {
        if (coarse && k >= 4)
            continue;
        UNROLL
        for (int i = 0; i < N; i++)
            e[i] = vf_fma(e[i], r[i], vf_set(poly[k]));
    }
    UNROLL
    for (int i = 0; i < N; i++) {
        if (coarse) {
            vi_store(p + (size_t)i * stride, vi_add32(vi_bits(e[i]), vi_sll32(vi_bits(y[i]), 23)));
            continue;
        }
        const vf x = vf_sub(vf_load(p + (size_t)i * stride), max[i / each]);
        const vi bits = vi_sll32(vi_add32(vi_bits(y[i]), vi_set32(127 - 0x4b400000)), 23);
        vf_store(p + (size_t)i * stride, vf_mul_above(e[i], vf_bits(bits), x, vf_set(-87.0f)));
    }
}

/* Soft cap and ALiBi; what row r does not see is below everything. */
static void KERNEL(shape_scores)(const qrl_attend *a, size_t r, float *p) {
    if (a->sloped || a->softcap > 0.0f) {
        const float slope = a->sloped ? a->slope[r] : 0.0f;
        for (size_t j = 0; j < QRL_PAGE; j++)
            p[j] = lane_score(p[j], a->softcap, slope, a->sloped ? a->at[r] - (int32_t)j : 0);
    }
    for (size_t j = 0; j < a->first[r]; j++)
        p[j] = -INFINITY;
    for (size_t j = a->end[r]; j < QRL_PAGE; j++)
        p[j] = -INFINITY;
}

/* The largest score of a row and of `max`; a NaN is passed over here and reaches the sum. */
INLINE float row_max(const float *p, float max) {
    vf lane[LANES / VR];
    UNROLL
    for (int v = 0; v < LANES / VR; v++)
        lane[v] = vf_max(vf_load(p + LANES + v * VR), vf_max(vf_load(p + v * VR), vf_set(max)));
    return vf_max16(lane);
}

/* The scores of R rows. */
INLINE void exp_scores(bool coarse, float *p, const float *max, int R) {
    vf most[2];
    UNROLL
    for (int r = 0; r < R; r++)
        most[r] = vf_set(max[r]);
    exp_vectors(coarse, p, VR, most, SCORE_VECTORS, R * SCORE_VECTORS);
}

/* The sum of weights, which are set to zero where row r does not see. */
INLINE float sum_weights(const qrl_attend *a, size_t r, float *p) {
    vf lane[LANES / VR];
    for (size_t j = 0; j < a->first[r]; j++)
        p[j] = 0.0f; /* also where there is no number but infinity */
    for (size_t j = a->end[r]; j < QRL_PAGE; j++)
        p[j] = 0.0f;
    UNROLL
    for (int v = 0; v < LANES / VR; v++)
        lane[v] = vf_add(vf_load(p + v * VR), vf_load(p + LANES + v * VR));
    return vf_sum16(lane);
}

/* Scores to weights, and what each row's sums until now are to be multiplied by. */
static void KERNEL(soften)(const qrl_attend *a, float (*p)[QRL_PAGE], float *keep) {
    float max[QRL_ATTN_ROWS];
    for (size_t r = 0; r < a->n_rows; r++) {
        const bool whole = a->first[r] == 0 && a->end[r] == QRL_PAGE;
        if (!whole || a->sloped || a->softcap > 0.0f)
            KERNEL(shape_scores)(a, r, p[r]);
        const bool sees = a->first[r] < a->end[r];
        max[r] = sees ? row_max(p[r], a->max[r]) : a->max[r];
        keep[r] = sees ? a->max[r] - max[r] : 0.0f; /* e^0 = 1 */
    }
    for (size_t r = a->n_rows; r % VR != 0; r++)
        keep[r] = 0.0f;
    const vf none = vf_zero();
    for (size_t r = 0; r < a->n_rows; r += VR)
        exp_vectors(false, keep + r, VR, &none, 1, 1);
    const bool coarse = a->type_k == QRL_KV_Q8_0;
    for (size_t from = 0; from < a->n_rows; from += 2) {
        if (coarse && from + 2 <= a->n_rows)
            exp_scores(true, p[from], max + from, 2);
        else if (coarse)
            exp_scores(true, p[from], max + from, 1);
        else if (from + 2 <= a->n_rows)
            exp_scores(false, p[from], max + from, 2);
        else
            exp_scores(false, p[from], max + from, 1);
    }
    for (size_t r = 0; r < a->n_rows; r++)
        if (a->first[r] < a->end[r]) {
            a->sum[r] = __builtin_fmaf(a->sum[r], keep[r], sum_weights(a, r, p[r]));
            a->max[r] = max[r];
        }
}

/* V vectors of dimensions from d on: acc = acc * keep, then acc += p[j] v[j], j in [from, to) ascending. lanes: the
 * weights p are [QRL_PAGE][QRL_ATTN_ROWS], else [rows][QRL_PAGE]. */
INLINE void add_values(const qrl_attend *a, const KERNEL(part) * x, qrl_kv_type type, size_t first, int R, int V,
                       size_t d, size_t from, size_t to, bool lanes, const float *p, const float *keep) {
    const size_t row = lanes ? 1 : QRL_PAGE, position = lanes ? QRL_ATTN_ROWS : 1;
    vf acc[TILE_SUMS];
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int v = 0; v < V; v++)
            acc[r * V + v] = vf_mul(vf_load(a->acc + (first + (size_t)r) * a->v_dim + d + (size_t)(v * VR)),
                                    vf_set(keep[first + (size_t)r]));
    }
    const bool ask = first == 0 && x->next;
    const size_t step = x->next_step * (size_t)(V * VR) / QRL_PAGE;
    const unsigned char *next = ask ? x->next + d * x->next_step : (const unsigned char *)a->q;
    UNROLL4
    for (size_t j = from; j < to; j++) {
        vf y[8];
        UNROLL
        for (int v = 0; v < V; v++)
            y[v] = load_part(type, x->data, j * a->v_dim + d + (size_t)(v * VR));
        if (ask) {
            ask_for(next, a->far);
            next += step;
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            const vf w = vf_bcast(p + (first + (size_t)r) * row + j * position);
            UNROLL
            for (int v = 0; v < V; v++)
                acc[r * V + v] = vf_fma(w, y[v], acc[r * V + v]);
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int v = 0; v < V; v++)
            vf_store(a->acc + (first + (size_t)r) * a->v_dim + d + (size_t)(v * VR), acc[r * V + v]);
    }
}

INLINE void add_all_values(const qrl_attend *a, const KERNEL(part) * x, qrl_kv_type type, size_t first, int R,
                           size_t from, size_t to, bool lanes, const float *p, const float *keep) {
    const size_t row = lanes ? 1 : QRL_PAGE, position = lanes ? QRL_ATTN_ROWS : 1;
    enum { MOST = VR == 16 ? 4 : 8 };
    const int V = VR == 16 ? (TILE_SUMS / R < MOST ? TILE_SUMS / R : MOST) : R >= 4 ? 2 : 8 / R;
    size_t d = 0;
    for (; d + (size_t)(V * VR) <= a->v_dim; d += (size_t)(V * VR))
        add_values(a, x, type, first, R, V, d, from, to, lanes, p, keep);
    for (; d + VR <= a->v_dim; d += VR)
        add_values(a, x, type, first, R, 1, d, from, to, lanes, p, keep);
    for (; d < a->v_dim; d++) /* floats: see attend */
        for (int r = 0; r < R; r++) {
            const float *v = x->data;
            float acc = a->acc[(first + (size_t)r) * a->v_dim + d] * keep[first + (size_t)r];
            for (size_t j = from; j < to; j++)
                acc = __builtin_fmaf(p[(first + (size_t)r) * row + j * position], v[j * a->v_dim + d], acc);
            a->acc[(first + (size_t)r) * a->v_dim + d] = acc;
        }
}

/* R rows together over the positions that all of them see, from the first on; what only some see behind
 * that (the diagonal of causal attention), row by row. A position that a row does not see is not
 * multiplied by zero: what lies there may be infinite. */
INLINE void values(const qrl_attend *a, const KERNEL(part) * x, qrl_kv_type type, size_t first, int R, bool lanes,
                   const float *p, float *keep) {
    if (lanes) {
        add_all_values(a, x, type, first, R, 0, QRL_PAGE, true, p, keep);
        return;
    }
    size_t end = QRL_PAGE;
    bool together = true;
    for (size_t r = first; r < first + (size_t)R; r++) {
        together = together && a->first[r] == a->first[first];
        end = a->end[r] < end ? a->end[r] : end;
    }
    if (together)
        add_all_values(a, x, type, first, R, a->first[first], end, false, p, keep);
    for (size_t r = first; r < first + (size_t)R; r++) {
        if (together)
            keep[r] = 1.0f;
        if (!together || a->end[r] > end)
            add_all_values(a, x, type, r, 1, together ? end : a->first[r], a->end[r], false, p, keep);
    }
}

INLINE void all_scores(const qrl_attend *a, const KERNEL(part) * k, qrl_kv_type type, float (*p)[QRL_PAGE]) {
    size_t r = 0;
    for (; r + 8 <= a->n_rows && VR == 16; r += 8)
        scores(a, k, type, r, 8, TILE_SUMS / 8, p);
    for (; r + 6 <= a->n_rows && VR == 8; r += 6)
        scores(a, k, type, r, 6, 2, p);
    for (; r + 4 <= a->n_rows; r += 4)
        scores(a, k, type, r, 4, 2, p);
    for (; r + 2 <= a->n_rows; r += 2)
        scores(a, k, type, r, 2, SCORE_VECTORS, p);
    for (; r < a->n_rows; r++)
        scores(a, k, type, r, 1, SCORE_VECTORS, p);
}

INLINE void all_values(const qrl_attend *a, const KERNEL(part) * v, qrl_kv_type type, bool lanes, const float *p,
                       float *keep) {
    size_t r = 0;
    for (; r + 8 <= a->n_rows && VR == 16; r += 8)
        values(a, v, type, r, 8, lanes, p, keep);
    for (; r + 6 <= a->n_rows && VR == 8; r += 6)
        values(a, v, type, r, 6, lanes, p, keep);
    for (; r + 4 <= a->n_rows; r += 4)
        values(a, v, type, r, 4, lanes, p, keep);
    for (; r + 2 <= a->n_rows; r += 2)
        values(a, v, type, r, 2, lanes, p, keep);
    for (; r < a->n_rows; r++)
        values(a, v, type, r, 1, lanes, p, keep);
}

/* Keys or values ready for the loops: where they lie, or unpacked to `floats`; floats in any case if `unpack`. */
static KERNEL(part) KERNEL(find_part)(const qrl_attend *a, bool keys, bool unpack, float *floats) {
    const qrl_kv_type type = keys ? a->type_k : a->type_v;
    const size_t dim = keys ? a->k_dim : a->v_dim;
    KERNEL(part)
    part = {.type = type,
            .data = keys ? a->k : a->v,
            .next = keys ? a->next_k : a->next_v,
            .next_step = QRL_PAGE * (type == QRL_KV_F32   ? 4
                                     : type == QRL_KV_F16 ? 2
                                                          : 1)}; /* of Q4_0 half is asked for twice */
    const bool direct = type == QRL_KV_F16 && a->n_rows <= DIRECT_ROWS && !unpack;
    if (type != QRL_KV_F32 && !direct) {
        KERNEL(unpack_kv)(type, keys, part.data, dim, floats);
        part.data = floats;
        part.type = QRL_KV_F32;
    }
    return part;
}

static void KERNEL(all_scores_float)(const qrl_attend *a, float (*p)[QRL_PAGE]) {
    const KERNEL(part) k = KERNEL(find_part)(a, true, false, a->floats);
    if (k.type == QRL_KV_F16)
        all_scores(a, &k, QRL_KV_F16, p);
    else
        all_scores(a, &k, QRL_KV_F32, p);
}

INLINE void all_values_float(const qrl_attend *a, bool lanes, const float *p, float *keep) {
    const KERNEL(part) v = KERNEL(find_part)(a, false, a->v_dim % VR != 0, a->floats);
    if (v.type == QRL_KV_F16)
        all_values(a, &v, QRL_KV_F16, lanes, p, keep);
    else
        all_values(a, &v, QRL_KV_F32, lanes, p, keep);
}

#include "cpu/kernels/attend_rows_impl.h"

static void KERNEL(attend)(const qrl_attend *a) {
    const size_t rows = a->type_k == QRL_KV_Q8_0 ? VR : 16; /* of floats, 8 rows are better by vectors of positions */
    if (a->whole && a->n_rows % rows == 0 && !a->sloped && !(a->softcap > 0.0f)) {
        KERNEL(attend_rows)(a);
        return;
    }
    _Alignas(64) float p[QRL_ATTN_ROWS][QRL_PAGE], keep[QRL_ATTN_ROWS]; /* no vector across lines */
    if (a->type_k == QRL_KV_Q8_0)
        KERNEL(all_scores_q8)(a, p);
    else
        KERNEL(all_scores_float)(a, p);
    KERNEL(soften)(a, p, keep);
    if (a->type_v == QRL_KV_Q8_0)
        KERNEL(all_values_q8)(a, p, keep);
    else
        all_values_float(a, false, p[0], keep);
}
