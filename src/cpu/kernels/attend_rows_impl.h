/* Attention over a page of which all query rows, some multiple of VR, see everything: the same numbers as in
 * attend_impl.h, but the lanes are the rows. So maxima, sums and the rounding of weights need no maximum or sum over
 * lanes, which take as long as e^x otherwise. Scores and weights stand as [positions][QRL_ATTN_ROWS]. */

/* P positions from `from` on by W vectors of rows: p[j][r] = (q[r] . k[j]) scale, the keys floats. */
INLINE void row_scores(const qrl_attend *a, const KERNEL(part) * k, size_t first, int W, int P, size_t from, float *p) {
    const float *keys = (const float *)k->data + from;
    const size_t line = from / (size_t)P * 64; /* the first tiles ask for a line a dimension of the next page */
    const bool ask = first == 0 && k->next && line < k->next_step;
    const unsigned char *next = ask ? k->next + line : (const unsigned char *)a->q;
    vf s[TILE_SUMS];
    UNROLL
    for (int i = 0; i < P * W; i++)
        s[i] = vf_zero();
    UNROLL4
    for (size_t d = 0; d < a->k_dim; d++) {
        vf q[2];
        UNROLL
        for (int w = 0; w < W; w++)
            q[w] = vf_load(a->q + d * QRL_ATTN_ROWS + first + (size_t)(w * VR));
        if (ask) {
            ask_for(next, a->far);
            next += k->next_step;
        }
        UNROLL
        for (int i = 0; i < P; i++) {
            const vf x = vf_bcast(keys + d * QRL_PAGE + (size_t)i);
            UNROLL
            for (int w = 0; w < W; w++)
                s[i * W + w] = vf_fma(q[w], x, s[i * W + w]);
        }
    }
    UNROLL
    for (int i = 0; i < P * W; i++)
        vf_store(p + (from + (size_t)(i / W)) * QRL_ATTN_ROWS + first + (size_t)(i % W * VR),
                 vf_mul(s[i], vf_set(a->scale)));
}

static void KERNEL(all_row_scores)(const qrl_attend *a, float *p) {
    enum { MANY = VR == 16 ? 8 : 6 };
    const KERNEL(part) k = KERNEL(find_part)(a, true, true, a->floats);
    size_t r = 0;
    for (; r + VR < a->n_rows; r += 2 * VR) {
        size_t from = 0;
        for (; from + MANY <= QRL_PAGE; from += MANY)
            row_scores(a, &k, r, 2, MANY, from, p);
        for (; from < QRL_PAGE; from += 2)
            row_scores(a, &k, r, 2, 2, from, p);
    }
    for (; r < a->n_rows; r += VR)
        for (size_t from = 0; from < QRL_PAGE; from += 8)
            row_scores(a, &k, r, 1, 8, from, p);
}

/* As row_scores, over n fours of block b of keys of Q8_0: p[j][r] += ... */
INLINE void row_scores_q8(const qrl_attend *a, const scales_q8 *keys, size_t first, int W, int P, size_t from, size_t b,
                          size_t n, float *p) {
    const uint8_t *k = (const uint8_t *)a->k + (b * 8 * QRL_PAGE + from) * 4;
    const int8_t *q = a->q8.q + (b * 8 * QRL_ATTN_ROWS + first) * 4;
    const size_t at = b * QRL_ATTN_ROWS + first, line = from / (size_t)P % 2 * 64;
    const uint8_t *next = (const uint8_t *)(a->next_k ? a->next_k : a->k) + b * 8 * QRL_PAGE * 4 + line;
    vi sum[TILE_SUMS];
    UNROLL
    for (int i = 0; i < P * W; i++)
        sum[i] = vi_load(a->q8.start + at + (size_t)(i % W * VR));
    for (size_t f = 0; f < n; f++, k += QRL_PAGE * 4, q += QRL_ATTN_ROWS * 4, next += QRL_PAGE * 4) {
        vi y[2];
        ask_for(next, first == 0 ? a->far : 0);
        UNROLL
        for (int w = 0; w < W; w++)
            y[w] = vi_load(q + w * VB);
        UNROLL
        for (int i = 0; i < P; i++) {
            const vi x = vi_bcast32(k + i * 4);
            UNROLL
            for (int w = 0; w < W; w++) {
                sum[i * W + w] = add_fours(sum[i * W + w], x, y[w]);
                PIN(sum[i * W + w]);
            }
        }
    }
    UNROLL
    for (int i = 0; i < P; i++) {
        const size_t j = b * QRL_PAGE + from + (size_t)i;
        const vf s = vf_bcast(keys->scale + j), less = vf_bcast(keys->less + j);
        UNROLL
        for (int w = 0; w < W; w++) {
            float *to = p + (from + (size_t)i) * QRL_ATTN_ROWS + first + (size_t)(w * VR);
            const vf y = vf_fma(vf_bits(sum[i * W + w]), s, less);
            const vf by = vf_load(a->q8.scale + at + (size_t)(w * VR));
            vf_store(to, vf_fma(y, by, b == 0 ? vf_zero() : vf_load(to)));
        }
    }
}

static void KERNEL(all_row_scores_q8)(const qrl_attend *a, float *p) {
    enum { P1 = VR == 16 ? 16 : 8, P2 = P1 / 2 };
    const scales_q8 k = unpack_scales_q8(a);
    const size_t n_fours = (a->k_dim + 3) / 4;
    size_t r = 0;
    for (; r + VR < a->n_rows; r += 2 * VR)
        for (size_t b = 0; b * 8 < n_fours; b++)
            for (size_t from = 0; from < QRL_PAGE; from += P2)
                row_scores_q8(a, &k, r, 2, P2, from, b, n_fours - b * 8 < 8 ? n_fours - b * 8 : 8, p);
    for (; r < a->n_rows; r += VR)
        for (size_t b = 0; b * 8 < n_fours; b++)
            for (size_t from = 0; from < QRL_PAGE; from += P1)
                row_scores_q8(a, &k, r, 1, P1, from, b, n_fours - b * 8 < 8 ? n_fours - b * 8 : 8, p);
}

/* Scores of VR rows to weights, and what their sums until now are to be multiplied by. */
INLINE void soften_rows(bool coarse, float *p, float *max, float *sum, float *keep) {
    enum { N = 4, QUARTER = QRL_PAGE / 4 };
    vf top[4], a[QUARTER];
    UNROLL
    for (int i = 0; i < 4; i++)
        top[i] = vf_load(max);
    UNROLL4
    for (size_t j = 0; j < QRL_PAGE; j += 4) {
        UNROLL
        for (size_t i = 0; i < 4; i++)
            top[i] = vf_max(vf_load(p + (j + i) * QRL_ATTN_ROWS), top[i]); /* NaN: the second */
    }
    top[0] = vf_max(vf_max(top[0], top[1]), vf_max(top[2], top[3]));
    vf_store(keep, vf_load(max));
    exp_vectors(false, keep, VR, top, 1, 1);
    const vf by = vf_load(keep);
    for (size_t j = 0; j < QRL_PAGE; j += N)
        exp_vectors(coarse, p + j * QRL_ATTN_ROWS, QRL_ATTN_ROWS, top, N, N);
    UNROLL
    for (size_t i = 0; i < QUARTER; i++) { /* lanes i and i + 8 of 16 */
        const float *at = p + i * QRL_ATTN_ROWS;
        enum { STEP = QUARTER * QRL_ATTN_ROWS };
        a[i] = vf_add(vf_add(vf_load(at), vf_load(at + 2 * STEP)), vf_add(vf_load(at + STEP), vf_load(at + 3 * STEP)));
    }
    UNROLL
    for (size_t i = 0; i < 4; i++)
        a[i] = vf_add(a[i], a[i + 4]);
    vf_store(sum, vf_fma(vf_load(sum), by, vf_add(vf_add(a[0], a[2]), vf_add(a[1], a[3]))));
    vf_store(max, top[0]);
}

/* Weights of VR rows times the scales of values [QRL_PAGE] as 8 bits, and their scale: weigh_values_q8 of all. */
INLINE void weigh_rows_q8(const float *p, const float *scale, uint32_t *fours, float *by) {
    vi top = vi_zero();
    UNROLL4
    for (size_t i = 0; i < 8; i++) {
        vf w[4];
        UNROLL
        for (size_t v = 0; v < 4; v++)
            w[v] = vf_mul(vf_load(p + (i + 8 * v) * QRL_ATTN_ROWS), vf_bcast(scale + i + 8 * v));
        const vf all = vf_add(vf_add(w[0], w[1]), vf_add(w[2], w[3]));
        top = vi_max_u32(top, vi_and(vi_bits(all), vi_set32(0x7fffffff)));
    }
    /* scale_of_weights; x - 0 x is NaN where x is no number */
    const vi finite = vi_set32(0x7f800000), least = vi_set32((27 << 23) - 1);
    const vf most = vf_bits(top), d = vf_mul(most, vf_set(1.0f / 255.0f));
    vf_store(by, vf_bits(vi_where_less(vi_bits(vf_sub(d, vf_mul(d, vf_zero()))), least, top)));
    const vf inv = vf_bits(vi_where_less(vi_bits(vf_div(vf_set(255.0f), most)), least, top));
    UNROLL4
    for (size_t f = 0; f < 8; f++) {
        static const uint8_t order[4] = {0, 8, 4, 12}; /* qrl_kv_place */
        vi y[4];
        UNROLL
        for (size_t v = 0; v < 4; v++) {
            const size_t j = f % 4 + f / 4 * 16 + order[v];
            const vf w = vf_mul(vf_load(p + j * QRL_ATTN_ROWS), vf_bcast(scale + j));
            y[v] = vi_bits(vf_fma(w, inv, vf_set(ROUND)));
        }
        vi x = vi_xor3(y[0], vi_sll32(y[1], 8), vi_sll32(y[2], 16));
        x = vi_xor3(x, vi_sll32(y[3], 24), vi_set32(0x4b400000 ^ 0x40000000)); /* what ROUND left */
        vi_store(fours + f * QRL_ATTN_ROWS, vi_where_less(x, top, finite));
    }
}

static void KERNEL(all_row_values_q8)(const qrl_attend *a, const float *p, const float *keep) {
    const size_t block = qrl_kv_value_block(a->v_dim);
    _Alignas(64) uint32_t fours[8 * QRL_ATTN_ROWS];
    _Alignas(64) float scale[QRL_PAGE], by[QRL_ATTN_ROWS];
    for (size_t from = 0; from < a->v_dim; from += block) {
        const size_t to = from + block < a->v_dim ? from + block : a->v_dim;
        KERNEL(unpack_f16)((const uint16_t *)a->v + QRL_PAGE * a->v_dim / 2 + from / block * QRL_PAGE, QRL_PAGE, scale);
        for (size_t r = 0; r < a->n_rows; r += VR)
            weigh_rows_q8(p + r, scale, fours + r, by + r);
        values_q8_of(a, true, from, to, fours, by, keep);
    }
}

static void KERNEL(attend_rows)(const qrl_attend *a) {
    _Alignas(64) float p[QRL_PAGE * QRL_ATTN_ROWS], keep[QRL_ATTN_ROWS];
    if (a->type_k == QRL_KV_Q8_0)
        KERNEL(all_row_scores_q8)(a, p);
    else
        KERNEL(all_row_scores)(a, p);
    for (size_t r = 0; r < a->n_rows; r += VR)
        if (a->type_k == QRL_KV_Q8_0)
            soften_rows(true, p + r, a->max + r, a->sum + r, keep + r);
        else
            soften_rows(false, p + r, a->max + r, a->sum + r, keep + r);
    if (a->type_v == QRL_KV_Q8_0)
        KERNEL(all_row_values_q8)(a, p, keep);
    else
        all_values_float(a, true, p, keep);
}
