/* Keys and values to F16, packed pages of them to floats, and queries to integers; the layout stands at qrl_kv_layer in
 * backend/backend.h. Every value is one exact conversion, or one product of an integer and a scale, so any
 * instruction set gives the same bits. */
#include "base/half.h"
#include "cpu/kernels/quantize.h"

/* Exact, as qrl_f16_to_f32, without its branches. */
static inline float KERNEL(half)(uint16_t h) {
    const uint32_t shifted = (uint32_t)(h & 0x7fffu) << 13;
    const float scaled = qrl_bits_f32(shifted) * 0x1p112f; /* moves the exponent's bias; subnormals too */
    const uint32_t special = (h & 0x7c00u) == 0x7c00u ? 0x7f800000u : 0;
    return qrl_bits_f32(qrl_f32_bits(scaled) | special | (uint32_t)(h & 0x8000u) << 16);
}

static void KERNEL(to_f16)(const float *x, size_t n, uint16_t *out) {
    size_t i = 0;
#ifdef HAVE_VECTORS
    for (; i + VR <= n; i += VR)
        vf_to_f16(vf_load(x + i), out + i); /* rounds to nearest, ties to even, and keeps subnormals */
#endif
    for (; i < n; i++)
        out[i] = qrl_f32_to_f16(x[i]);
}

static void KERNEL(unpack_f16)(const uint16_t *from, size_t n, float *out) {
    size_t i = 0;
#ifdef HAVE_VECTORS
    for (; i + VR <= n; i += VR)
        vf_store(out + i, vf_f16(from + i)); /* one instruction, which is exact too */
#endif
    for (; i < n; i++)
        out[i] = KERNEL(half)(from[i]);
}

#ifdef HAVE_VECTORS
/* VR integers, one from each byte or (both) two, by their scales. */
static inline vf KERNEL(scaled4)(const uint8_t *q, int high, vf scale) {
    return vf_mul(vf_sub(vf_nibble(q, high), vf_set(8.0f)), scale);
}
static inline vf KERNEL(both4)(const uint8_t *q, vf scale) {
    return vf_mul(vf_sub(vf_nibbles(q), vf_set(8.0f)), scale);
}
#endif

/* A byte holds dims 2i (low half) and 2i + 1 of a position, each plus 8; then [blocks of 32 dims][QRL_PAGE] scales. */
static void KERNEL(unpack_keys_q4)(const uint8_t *q, const uint16_t *scale, size_t dim, float *out) {
    for (size_t begin = 0; begin < dim; begin += 32, scale += QRL_PAGE) {
        const size_t end = begin + 32 < dim ? begin + 32 : dim;
        float d[QRL_PAGE];
        KERNEL(unpack_f16)(scale, QRL_PAGE, d);
        for (size_t i = begin; i < end; i += 2) {
            const uint8_t *from = q + i / 2 * QRL_PAGE;
            float *low = out + i * QRL_PAGE, *high = low + QRL_PAGE;
            size_t j = 0;
#ifdef HAVE_VECTORS
            for (; j < QRL_PAGE; j += VR) {
                vf_store(low + j, KERNEL(scaled4)(from + j, 0, vf_load(d + j)));
                vf_store(high + j, KERNEL(scaled4)(from + j, 1, vf_load(d + j)));
            }
#endif
            for (; j < QRL_PAGE; j++) {
                low[j] = (float)((from[j] & 15) - 8) * d[j];
                high[j] = (float)((from[j] >> 4) - 8) * d[j];
            }
        }
    }
}

/* Values: [QRL_PAGE][dim / 2] bytes, then [QRL_PAGE][blocks of 32 dims] scales. */
static void KERNEL(unpack_values_q4)(const uint8_t *q, const uint16_t *scale, size_t dim, float *out) {
    const size_t blocks = (dim + 31) / 32;
    for (size_t j = 0; j < QRL_PAGE; j++)
        for (size_t b = 0; b < blocks; b++) {
            const float d = KERNEL(half)(scale[j * blocks + b]);
            const size_t end = b * 16 + 16 < dim / 2 ? b * 16 + 16 : dim / 2;
            size_t i = b * 16;
#ifdef HAVE_VECTORS
            for (; i + VR / 2 <= end; i += VR / 2)
                vf_store(out + j * dim + 2 * i, KERNEL(both4)(q + j * (dim / 2) + i, vf_set(d)));
#endif
            for (; i < end; i++) {
                out[j * dim + 2 * i] = (float)((q[j * (dim / 2) + i] & 15) - 8) * d;
                out[j * dim + 2 * i + 1] = (float)((q[j * (dim / 2) + i] >> 4) - 8) * d;
            }
        }
}

static void KERNEL(unpack_kv)(qrl_kv_type type, bool keys, const void *page, size_t dim, float *out) {
    const uint16_t *const scale4 = (const uint16_t *)page + QRL_PAGE * dim / 4;
    if (type == QRL_KV_F16)
        KERNEL(unpack_f16)(page, QRL_PAGE * dim, out);
    else if (type == QRL_KV_Q4_0)
        (keys ? KERNEL(unpack_keys_q4) : KERNEL(unpack_values_q4))(page, scale4, dim, out);
}

/* As activations are (quantize.h), but for what stands for the largest value of a block: of dimensions 2i and 2i + 1
 * also their sum. So products with 8 bits without a sign fit into 16 bits in pairs: 255 * 128 < 32768. */
static void KERNEL(quantize_query)(const float *x, size_t dim, float scale, size_t r, const qrl_query8 *out) {
    for (size_t b = 0; b * 32 < dim; b++) {
        float v[32] = {0};
        memcpy(v, x + b * 32, (dim - b * 32 < 32 ? dim - b * 32 : 32) * sizeof *v);
        uint32_t top = 0;
        for (size_t i = 0; i < 32; i++) {
            const uint32_t one = qrl_f32_bits(v[i]) & 0x7fffffffu;
            const uint32_t two = qrl_f32_bits(v[i & 30] + v[i | 1]) & 0x7fffffffu;
            top = top > one ? top : one;
            top = top > two ? top : two;
        }
        const block_scale s = scale_of(top);
        int32_t sum = 0;
        for (size_t i = 0; i < 32; i++) {
            const float y = (s.finite ? v[i] : 0.0f) * s.inv + ROUND;
            const int32_t q = (int32_t)(qrl_f32_bits(y) - qrl_f32_bits(ROUND));
            out->q[((b * 8 + i / 4) * QRL_ATTN_ROWS + r) * 4 + i % 4] = (int8_t)q;
            sum += q;
        }
        out->scale[b * QRL_ATTN_ROWS + r] = s.d * scale;
        out->start[b * QRL_ATTN_ROWS + r] = -128 * sum;
    }
}
