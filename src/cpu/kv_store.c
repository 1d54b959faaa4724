/* Keys and values into their pages, in the cache's types (layouts: qrl_kv_layer of backend/backend.h).
 *
 * 4-bit types store a row turned by a Hadamard matrix: it spreads outliers over the dimensions, so that
 * a block's scale fits all of them. Scores do not change when keys and queries are turned alike, and
 * sums of turned values are turned back at the end. */
#include "cpu/kv_pages.h"

#include "base/half.h"

#include <math.h>
#include <string.h>

/* To the nearest integer, ties to even; NaN becomes `least` (its block's scale tells of it). */
static int quantize(float x, int least, int most) {
    const float magic = 12582912.0f; /* 1.5 * 2^23 */
    const float clamped = x > (float)least ? x < (float)most ? x : (float)most : (float)least;
    return (int)((clamped + magic) - magic);
}

/* The scale of 4-bit values with the least squared error, of a few: the greatest value `most` goes to -7 ... -9
 * (clipped at -8), and for the integers that follow the best scale is known. *inverse: what to multiply the values
 * with. */
static float fit_q4(const float *x, size_t n, float most, float *inverse) {
    static const float reach[] = {-8.0f, -7.0f, -7.5f, -8.5f, -9.0f};
    float best = 0, scale = 0;
    *inverse = 0;
    for (size_t c = 0; c < sizeof reach / sizeof *reach && most != 0; c++) {
        const float by = reach[c] / most;
        float qx = 0, qq = 0;
        for (size_t i = 0; i < n; i++) {
            const float q = (float)quantize(x[i] * by, -8, 7);
            qx += q * x[i];
            qq += q * q;
        }
        if (qx * qx > best * qq) { /* the error is the sum of x^2 less qx^2 / qq */
            best = qx * qx / qq;
            scale = qx / qq;
            *inverse = by;
        }
    }
    return scale;
}

/* The scale of a block of Q4_0, as a half, and what to multiply its values with. A block with an infinity or NaN
 * gets such a scale: the failure reaches the logits. */
static float block_scale(const float *x, size_t n, uint16_t *scale) {
    float most = 0; /* the value of the greatest magnitude, with its sign */
    bool broken = false;
    for (size_t i = 0; i < n; i++) {
        broken = broken || !(fabsf(x[i]) <= 3e38f);
        most = fabsf(x[i]) > fabsf(most) ? x[i] : most;
    }
    float inverse = 0;
    *scale = broken ? 0x7e00 : qrl_f32_to_f16(fit_q4(x, n, most, &inverse));
    return inverse;
}

/* Row x [dim] of position `at` in the page. step: from one dimension to the next, in values. */
static void put_row(const qrl_kernels *k, qrl_kv_type type, bool keys, unsigned char *page, size_t dim, size_t at,
                    const float *x) {
    const size_t blocks = (dim + 31) / 32;
    const size_t step = keys ? QRL_PAGE : 1, first = keys ? at : at * dim;
    if (type == QRL_KV_F32) {
        float *out = (float *)(void *)page + first;
        for (size_t i = 0; i < dim; i++)
            out[i * step] = x[i];
        return;
    }
    if (type == QRL_KV_F16) {
        enum { PART = 128 };
        uint16_t *out = (uint16_t *)(void *)page + first, part[PART];
        if (!keys)
            k->to_f16(x, dim, out);
        for (size_t begin = 0; keys && begin < dim; begin += PART) {
            const size_t n = dim - begin < PART ? dim - begin : PART;
            k->to_f16(x + begin, n, part);
            for (size_t i = 0; i < n; i++)
                out[(begin + i) * step] = part[i];
        }
        return;
    }
    if (type == QRL_KV_Q8_0) {
        k->put_q8(keys, page, dim, at, x);
        return;
    }
    uint16_t *scales = (uint16_t *)(void *)(page + QRL_PAGE * dim / 2);
    for (size_t b = 0; b < blocks; b++) {
        const size_t begin = b * 32, n = dim - begin < 32 ? dim - begin : 32;
        const float inverse = block_scale(x + begin, n, scales + (keys ? b * QRL_PAGE + at : at * blocks + b));
        for (size_t i = begin; i < begin + n; i += 2) {
            const int low = quantize(x[i] * inverse, -8, 7) + 8, high = quantize(x[i + 1] * inverse, -8, 7) + 8;
            page[keys ? i / 2 * QRL_PAGE + at : at * (dim / 2) + i / 2] = (unsigned char)(low | high << 4);
        }
    }
}

struct store_job {
    qrl_backend *b;
    const qrl_kv_store_op *op;
};

static void store_part(const qrl_kernels *k, const qrl_kv_layer *kv, bool keys, unsigned char *page, size_t at,
                       const float *x, float *scratch) {
    const qrl_kv_type type = keys ? kv->type_k : kv->type_v;
    const size_t dim = keys ? kv->k_dim : kv->v_dim;
    if (qrl_kv_rotates(type)) {
        memcpy(scratch, x, dim * sizeof *x);
        k->rotate(scratch, dim);
        x = scratch;
    }
    put_row(k, type, keys, page, dim, at, x);
}

void qrl_cpu_kv_store_head(const qrl_kernels *k, const qrl_kv_store_op *op, const qrl_span *span, size_t row,
                           size_t head, float *scratch) {
    const qrl_kv_layer *kv = &op->kv;
    const size_t pos = span->pos + (row - span->row), at = pos % QRL_PAGE, from = row * kv->n_head_kv + head;
    unsigned char *page = qrl_kv_page(kv, span, pos, head);
    store_part(k, kv, true, page, at, op->k + from * kv->k_dim, scratch);
    store_part(k, kv, false, page + qrl_kv_key_bytes(kv->type_k, kv->k_dim), at, op->v + from * kv->v_dim, scratch);
}

/* Rows of all spans, which are in the order of their rows; the first span's first row is 0 here. */
static void store_rows(void *context, size_t from, size_t to, int thread) {
    const struct store_job *j = context;
    const size_t first = j->op->spans[0].row;
    float *scratch = qrl_cpu_attend_scratch(j->b, thread).floats;
    for (size_t s = 0; s < j->op->n_spans; s++) {
        const qrl_span *span = &j->op->spans[s];
        const size_t begin = span->row - first, end = begin + span->n_rows;
        for (size_t i = from > begin ? from : begin; i < (to < end ? to : end); i++)
            for (size_t h = 0; h < j->op->kv.n_head_kv; h++)
                qrl_cpu_kv_store_head(j->b->kernels, j->op, span, first + i, h, scratch);
    }
}

void qrl_cpu_kv_store(qrl_backend *b, const qrl_kv_store_op *op) {
    if (op->n_spans == 0)
        return;
    const qrl_span *last = &op->spans[op->n_spans - 1];
    qrl_cpu_range(b, last->row - op->spans[0].row + last->n_rows, 4096 / (op->kv.n_head_kv * op->kv.k_dim) + 1,
                  store_rows, &(struct store_job){b, op});
}
