/* Attention over keys and values of Q8_0 of a page, by products of bytes: the parts of attend_impl.h that differ from
 * those of floats. Every integer sum is exact, so its order is free; the floats are in the order of scalar.c. Products
 * of a byte with a sign and one without are summed in fours: by one instruction with VNNI, else in pairs of 16 bits,
 * which queries and weights are rounded for (docs/numerics.md).
 * Scores: the lanes are positions. Values: the lanes are dimensions. */

/* Asks for a line of the next page, and of the one after it. (With AVX2, whose processors want this less, asking
 * whether to ask costs 2% of a page in the cache.) */
INLINE void ask_for(const void *line, ptrdiff_t far) {
    __builtin_prefetch(line);
    if (VR == 16 && far)
        __builtin_prefetch((const char *)line + far, 0, 2);
}

/* sums + products of four bytes, u without a sign */
INLINE vi add_fours(vi sums, vi u, vi s) {
    return HAVE_DPBUSD ? vi_dpbusd(sums, u, s) : vi_add32(sums, vi_madd16(vi_maddubs(u, s), vi_set16(1)));
}

/* The same of two fours whose pairs fit into 16 bits together. */
INLINE vi add_eights(vi sums, vi u0, vi s0, vi u1, vi s1) {
    if (HAVE_DPBUSD)
        return vi_dpbusd(vi_dpbusd(sums, u0, s0), u1, s1);
    return vi_add32(sums, vi_madd16(vi_add16(vi_maddubs(u0, s0), vi_maddubs(u1, s1)), vi_set16(1)));
}

/* The scales of a page's keys, and what else scores want. Sums of scores begin at 0x4b400000 (quantize_query), so their
 * bits are those of the float M + S, and (M + S) s - M s, fused, is S s rounded once: M s is exact. */
typedef struct scales_q8 {
    const float *scale, *less; /* [blocks][QRL_PAGE]: s, -M s */
} scales_q8;

INLINE scales_q8 unpack_scales_q8(const qrl_attend *a) {
    const size_t n_fours = (a->k_dim + 3) / 4, n = (n_fours + 7) / 8 * QRL_PAGE;
    float *scale = a->floats, *less = scale + n;
    for (size_t i = 0; i < n; i += VR) {
        const vf s = vf_f16((const uint16_t *)a->k + n_fours * QRL_PAGE * 2 + i);
        vf_store(scale + i, s);
        vf_store(less + i, vf_mul(s, vf_set(-ROUND)));
    }
    return (scales_q8){scale, less};
}

/* R rows by V vectors of positions: sums + products of four dimensions. next: the same keys of the next page. */
INLINE void score_four_q8(vi *sum, const int8_t *q, const uint8_t *k, const uint8_t *next, ptrdiff_t far, int R,
                          int V) {
    vi x[SCORE_VECTORS];
    UNROLL
    for (int v = 0; v < V; v++)
        x[v] = vi_load(k + v * VB);
    UNROLL
    for (int line = 0; line < V * VB; line += 64)
        ask_for(next + line, far);
    UNROLL
    for (int r = 0; r < R; r++) {
        const vi y = vi_bcast32(q + 4 * r);
        UNROLL
        for (int v = 0; v < V; v++) {
            sum[r * V + v] = add_fours(sum[r * V + v], x[v], y);
            PIN(sum[r * V + v]);
        }
    }
}

/* p[r][j] += q[r] . k[j] over n fours of block b (8, or fewer of the last), of R rows and V vectors of positions from
 * `from` on. next: the next page. */
INLINE void score_block_q8(const qrl_attend *a, const scales_q8 *keys, size_t first, int R, int V, size_t from,
                           size_t b, size_t n, const uint8_t *next, float (*p)[QRL_PAGE]) {
    const size_t at = b * 8 * QRL_PAGE * 4 + from * 4;
    const uint8_t *k = (const uint8_t *)a->k + at;
    const int8_t *q = a->q8.q + (b * 8 * QRL_ATTN_ROWS + first) * 4;
    vi sum[TILE_SUMS];
    const ptrdiff_t far = first == 0 ? a->far : 0;
    next += at;
    UNROLL
    for (int r = 0; r < R; r++) {
        UNROLL
        for (int v = 0; v < V; v++)
            sum[r * V + v] = vi_bcast32(a->q8.start + b * QRL_ATTN_ROWS + first + (size_t)r);
    }
    if (n == 8) {
        UNROLL
        for (size_t i = 0; i < 8; i++)
            score_four_q8(sum, q + i * QRL_ATTN_ROWS * 4, k + i * QRL_PAGE * 4, next + i * QRL_PAGE * 4, far, R, V);
    } else
        for (size_t i = 0; i < n; i++)
            score_four_q8(sum, q + i * QRL_ATTN_ROWS * 4, k + i * QRL_PAGE * 4, next + i * QRL_PAGE * 4, far, R, V);
    UNROLL
    for (int r = 0; r < R; r++) {
        const vf by = vf_bcast(a->q8.scale + b * QRL_ATTN_ROWS + first + (size_t)r);
        UNROLL
        for (int v = 0; v < V; v++) {
            float *to = p[first + (size_t)r] + from + v * VR;
            const size_t j = b * QRL_PAGE + from + (size_t)(v * VR);
            const vf y = vf_fma(vf_bits(sum[r * V + v]), vf_load(keys->scale + j), vf_load(keys->less + j));
            vf_store(to, vf_fma(y, by, b == 0 ? vf_zero() : vf_load(to)));
        }
    }
}

/* p[r][j] = q[r] . k[j] for R rows; V vectors of positions at a time. */
INLINE void scores_q8_of(const qrl_attend *a, const scales_q8 *keys, size_t first, int R, int V, float (*p)[QRL_PAGE]) {
    const size_t n_fours = (a->k_dim + 3) / 4;
    const uint8_t *next = a->next_k && first == 0 ? a->next_k : a->k;
    for (size_t from = 0; from < QRL_PAGE; from += (size_t)(V * VR)) {
        size_t b = 0;
        for (; b * 8 + 8 <= n_fours; b++)
            score_block_q8(a, keys, first, R, V, from, b, 8, next, p);
        if (n_fours % 8)
            score_block_q8(a, keys, first, R, V, from, b, n_fours % 8, next, p);
    }
}

static void KERNEL(all_scores_q8)(const qrl_attend *a, float (*p)[QRL_PAGE]) {
    enum { MOST = VR == 16 ? 8 : 4 };
    const scales_q8 k = unpack_scales_q8(a);
    size_t r = 0;
    for (; r + MOST <= a->n_rows; r += MOST)
        scores_q8_of(a, &k, r, MOST, 2, p);
    for (; r + 4 <= a->n_rows; r += 4)
        scores_q8_of(a, &k, r, 4, 2, p);
    for (; r + 2 <= a->n_rows; r += 2)
        scores_q8_of(a, &k, r, 2, SCORE_VECTORS, p);
    for (; r < a->n_rows; r++)
        scores_q8_of(a, &k, r, 1, SCORE_VECTORS, p);
}

/* Weights of a row times the scales of values [QRL_PAGE] as 8 bits: 8 fours, in the order of the values'
 * (qrl_kv_four). Returns their scale. */
INLINE float weigh_values_q8(const qrl_attend *a, size_t r, const float *p, const float *scale, uint32_t *fours) {
    __m256 w[4];
    __m256i q[4];
    UNROLL
    for (int i = 0; i < 4; i++)
        w[i] = _mm256_mul_ps(_mm256_loadu_ps(p + 8 * i), _mm256_loadu_ps(scale + 8 * i));
    if (a->first[r] > 0 || a->end[r] < QRL_PAGE) { /* what is not seen may have any scale, NaN too */
        const __m256i from = _mm256_set1_epi32(a->first[r]), to = _mm256_set1_epi32(a->end[r]);
        __m256i at = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        UNROLL
        for (int i = 0; i < 4; i++) {
            const __m256i seen = _mm256_andnot_si256(_mm256_cmpgt_epi32(from, at), _mm256_cmpgt_epi32(to, at));
            w[i] = _mm256_and_ps(w[i], _mm256_castsi256_ps(seen));
            at = _mm256_add_epi32(at, _mm256_set1_epi32(8));
        }
    }
    const __m256 sums = _mm256_add_ps(_mm256_add_ps(w[0], w[1]), _mm256_add_ps(w[2], w[3]));
    const block_scale s =
        scale_of_weights(largest(_mm256_and_si256(_mm256_castps_si256(sums), _mm256_set1_epi32(0x7fffffff))));
    if (!s.finite) {
        memset(fours, 0, 8 * sizeof *fours);
        return s.d;
    }
    UNROLL
    for (int i = 0; i < 4; i++)
        q[i] = _mm256_castps_si256(_mm256_fmadd_ps(w[i], _mm256_set1_ps(s.inv), _mm256_set1_ps(ROUND)));
    /* the low 16 bits of each lane: positions i and i + 8, i + 16 and i + 24 */
    const __m256i low = _mm256_or_si256(q[0], _mm256_slli_epi32(q[1], 8));
    const __m256i high = _mm256_or_si256(q[2], _mm256_slli_epi32(q[3], 8));
    const __m256i first = _mm256_permute2x128_si256(low, high, 0x20), last = _mm256_permute2x128_si256(low, high, 0x31);
    _mm256_storeu_si256((__m256i *)(void *)fours, _mm256_blend_epi16(first, _mm256_slli_epi32(last, 16), 0xaa));
    return s.d;
}

/* Weights of the rows by V vectors of dimensions from d on, of which n count: acc = acc * keep + sum * scale. */
INLINE void add_values_q8(const qrl_attend *a, bool lanes, size_t first, int R, int V, size_t d, size_t n,
                          const uint32_t *fours, const float *scale, const float *keep) {
    const size_t row = lanes ? 1 : 8, four = lanes ? QRL_ATTN_ROWS : 1;
    const int8_t *x = (const int8_t *)a->v + d * 4;
    const int8_t *next = a->next_v && first == 0 ? (const int8_t *)a->next_v + d * 4 : x; /* as in score_four_q8 */
    const ptrdiff_t far = first == 0 ? a->far : 0;
    vi sum[TILE_SUMS];
    UNROLL
    for (int i = 0; i < R * V; i++)
        sum[i] = vi_zero();
    UNROLL
    for (size_t i = 0; i < 4; i++, x += a->v_dim * 4, next += a->v_dim * 4) {
        vi low[4], high[4];
        UNROLL
        for (int v = 0; v < V; v++) {
            low[v] = vi_load(x + v * VB);
            high[v] = vi_load(x + 4 * a->v_dim * 4 + v * VB);
        }
        UNROLL
        for (int line = 0; line < V * VB; line += 64) {
            ask_for(next + line, far);
            ask_for(next + 4 * a->v_dim * 4 + line, far);
        }
        UNROLL
        for (int r = 0; r < R; r++) {
            const uint32_t *w = fours + (first + (size_t)r) * row + i * four;
            const vi w0 = vi_bcast32(w), w1 = vi_bcast32(w + 4 * four);
            UNROLL
            for (int v = 0; v < V; v++) {
                sum[r * V + v] = add_eights(sum[r * V + v], w0, low[v], w1, high[v]);
                PIN(sum[r * V + v]);
            }
        }
    }
    UNROLL
    for (int r = 0; r < R; r++) {
        const vf s = vf_set(scale[first + (size_t)r]), k = vf_set(keep[first + (size_t)r]);
        UNROLL
        for (int v = 0; v < V; v++) {
            float part[VR], *acc = a->acc + (first + (size_t)r) * a->v_dim + d + (size_t)(v * VR);
            float *at = n < (size_t)(V * VR) ? part : acc;
            if (at == part)
                memcpy(part, acc, n * sizeof *acc);
            vf_store(at, vf_fma(vf_cvt(sum[r * V + v]), s, vf_mul(vf_load(at), k)));
            if (at == part)
                memcpy(acc, part, n * sizeof *acc);
        }
    }
}

/* Dimensions [from, to), which share the scales of weights. */
INLINE void values_q8(const qrl_attend *a, bool lanes, size_t first, int R, size_t from, size_t to,
                      const uint32_t *fours, const float *scale, const float *keep) {
    const int V = R >= 4 ? 2 : 4;
    size_t d = from;
    for (; d + (size_t)(V * VR) <= to; d += (size_t)(V * VR))
        add_values_q8(a, lanes, first, R, V, d, (size_t)(V * VR), fours, scale, keep);
    for (; d < to; d += VR)
        add_values_q8(a, lanes, first, R, 1, d, to - d < VR ? to - d : VR, fours, scale, keep);
}

/* The same of all rows. lanes: fours are [8][QRL_ATTN_ROWS], else [rows][8]. */
INLINE void values_q8_of(const qrl_attend *a, bool lanes, size_t from, size_t to, const uint32_t *fours,
                         const float *scale, const float *keep) {
    size_t r = 0;
    for (; r + 8 <= a->n_rows && VR == 16; r += 8)
        values_q8(a, lanes, r, 8, from, to, fours, scale, keep);
    for (; r + 4 <= a->n_rows; r += 4)
        values_q8(a, lanes, r, 4, from, to, fours, scale, keep);
    for (; r + 2 <= a->n_rows; r += 2)
        values_q8(a, lanes, r, 2, from, to, fours, scale, keep);
    for (; r < a->n_rows; r++)
        values_q8(a, lanes, r, 1, from, to, fours, scale, keep);
}

static void KERNEL(all_values_q8)(const qrl_attend *a, float (*p)[QRL_PAGE], const float *keep) {
    const size_t block = qrl_kv_value_block(a->v_dim);
    _Alignas(64) uint32_t fours[QRL_ATTN_ROWS][8];
    _Alignas(64) float scale[QRL_PAGE], s[QRL_ATTN_ROWS];
    for (size_t from = 0; from < a->v_dim; from += block) {
        const size_t to = from + block < a->v_dim ? from + block : a->v_dim;
        KERNEL(unpack_f16)((const uint16_t *)a->v + QRL_PAGE * a->v_dim / 2 + from / block * QRL_PAGE, QRL_PAGE, scale);
        for (size_t r = 0; r < a->n_rows; r++) {
            s[r] = weigh_values_q8(a, r, p[r], scale, fours[r]);
            if (a->first[r] == a->end[r])
                s[r] = -0.0f; /* x + 0 * this is x, be it a zero of either sign */
        }
        values_q8_of(a, false, from, to, fours[0], s, keep);
    }
}
