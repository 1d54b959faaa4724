/* Packed weights, read as pack.h says, are the rows as quant/ unpacks them: every value, scale and minimum of every
 * type, and nothing of rows beyond the matrix. */
#include "random.h"

#include "base/half.h"
#include "cpu/pack.h"

#include <stdio.h>
#include <string.h>

enum { N_ROWS = 37 }; /* two groups, and five rows of a third */

/* Value k of row r of a unit whose planes begin at p. */
static int stored(const unsigned char *p, int planes, size_t r, size_t k) {
    const size_t chunk = k / 4, byte = 4 * r + k % 4;
    int value = 0, shift = 0;
    for (int digits = planes < 10 ? planes : planes / 10; digits; digits = shift == planes / 10 ? planes % 10 : 0) {
        const unsigned char *vectors = p;
        switch (digits) {
        case 8:
            value = vectors[64 * chunk + byte];
            break;
        case 4:
            value |= (vectors[64 * (chunk % 4) + byte] >> (4 * (chunk / 4)) & 15) << shift;
            break;
        case 2:
            value |= (vectors[64 * (chunk / 4) + byte] >> (2 * (chunk % 4)) & 3) << shift;
            break;
        case 1:
            value |= (vectors[byte] >> chunk & 1) << shift;
            break;
        default:
            fail_msg("%d planes", planes);
        }
        p += 64 * digits;
        shift += digits;
    }
    return value;
}

static float f16_at(const unsigned char *head, size_t i) {
    uint16_t half;
    memcpy(&half, head + 2 * i, 2);
    return qrl_f16_to_f32(half);
}
static float f32_at(const unsigned char *head, size_t i) {
    float x;
    memcpy(&x, head + 4 * i, 4);
    return x;
}

/* Scale and minimum of one half of unit u of row r, from a superblock's head. */
static void scale_min(qrl_head head, const unsigned char *h, size_t u, size_t half, size_t r, float *scale,
                      float *min) {
    const size_t g = QRL_GROUP, j = 2 * u + half;
    *min = 0.0f;
    switch (head) {
    case QRL_HEAD_D:
        *scale = f16_at(h, r);
        return;
    case QRL_HEAD_DM:
        *scale = f16_at(h, r);
        *min = -f16_at(h, g + r);
        return;
    case QRL_HEAD_E8:
        *scale = ldexpf(1.0f, h[r] - 128);
        return;
    case QRL_HEAD_KM:
        *scale = f16_at(h, r) * (float)h[4 * g + u * g + r];
        *min = f16_at(h, g + r) * (float)h[12 * g + u * g + r];
        return;
    case QRL_HEAD_KM16:
        *scale = f16_at(h, r) * (float)(h[4 * g + j * g + r] & 15);
        *min = f16_at(h, g + r) * (float)(h[4 * g + j * g + r] >> 4);
        return;
    case QRL_HEAD_K:
        *scale = f16_at(h, r) * (float)(int8_t)h[2 * g + u * g + r];
        return;
    case QRL_HEAD_K16:
        *scale = f16_at(h, r) * (float)(int8_t)h[2 * g + j * g + r];
        return;
    case QRL_HEAD_F32:
        *scale = f32_at(h, r);
        return;
    case QRL_HEAD_F32X2:
        *scale = f32_at(h, half * g + r);
        return;
    }
}

/* Row `row` of the matrix, which is row r of the group. */
static void check_row(qrl_type type, const unsigned char *data, size_t n_cols, size_t row, size_t r,
                      const unsigned char *packed) {
    static const int8_t luts[][16] = {[QRL_LUT_NL4] = {QRL_LUT_NL4_VALUES}, [QRL_LUT_FP4] = {QRL_LUT_FP4_VALUES}};
    const qrl_pack *p = qrl_pack_of(type);
    const qrl_traits *t = qrl_quant_traits(type);
    const size_t head = qrl_head_bytes(p->head), unit_bytes = qrl_planes_bytes(p->planes);
    for (size_t unit = 0; unit < n_cols / QRL_UNIT; unit++) {
        const unsigned char *super = packed + unit / p->units * (head + p->units * unit_bytes);
        const size_t u = unit % p->units;
        qrl_qunit q = {0};
        if (row < N_ROWS)
            t->unpack(data + row * qrl_row_bytes(type, n_cols), unit, &q);
        float scale, min;
        for (size_t k = 0; k < QRL_UNIT; k++) {
            const int code = stored(super + head + u * unit_bytes, p->planes, r, k);
            const int value = p->lut ? luts[p->lut][code & 15] : code - p->offset;
            scale_min(p->head, super, u, k / 16, r, &scale, &min);
            if (row < N_ROWS ? value != q.q[k] : scale * (float)value != 0.0f)
                fail_msg("%s: row %zu, value %zu is %d", t->name, row, unit * QRL_UNIT + k, value);
            if (row < N_ROWS ? scale != q.scale[k / 16] || min != q.min[k / 16] : min != 0.0f)
                fail_msg("%s: row %zu, unit %zu: scale %g, minimum %g; not %g, %g", t->name, row, unit, (double)scale,
                         (double)min, (double)q.scale[k / 16], (double)q.min[k / 16]);
        }
    }
}

static void quantized_types(void **state) {
    (void)state;
    int types = 0;
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++) {
        const size_t n_cols = 768;
        if (!qrl_pack_of(type))
            continue;
        unsigned char *data = random_matrix(type, N_ROWS, n_cols);
        unsigned char *packed = malloc(qrl_group_bytes(type, n_cols));
        for (size_t first = 0; first < N_ROWS; first += QRL_GROUP) {
            memset(packed, 0xa5, qrl_group_bytes(type, n_cols));
            qrl_pack_group(type, data, N_ROWS, n_cols, first, packed);
            for (size_t r = 0; r < QRL_GROUP; r++)
                check_row(type, data, n_cols, first + r, r, packed);
        }
        free(packed);
        free(data);
        types++;
    }
    assert_true(types > 20);
}

/* Any number of columns: pieces of a line, and what is left. */
static void float_types(void **state) {
    (void)state;
    static const size_t cols[] = {1, 7, 16, 31, 32, 64, 83};
    for (qrl_type type = 0; type < QRL_TYPE_COUNT; type++)
        for (size_t i = 0; i < sizeof cols / sizeof *cols && !qrl_pack_of(type); i++) {
            const size_t size = qrl_quant_traits(type)->block_bytes, n_cols = cols[i];
            unsigned char *data = random_matrix(type, N_ROWS, n_cols), zero[4] = {0};
            unsigned char *packed = malloc(qrl_group_bytes(type, n_cols));
            for (size_t first = 0; first < N_ROWS; first += QRL_GROUP) {
                memset(packed, 0xa5, qrl_group_bytes(type, n_cols));
                qrl_pack_group(type, data, N_ROWS, n_cols, first, packed);
                for (size_t r = 0; r < QRL_GROUP; r++)
                    for (size_t k = 0; k < n_cols; k++) {
                        const size_t row = first + r;
                        const unsigned char *want = row < N_ROWS ? data + (row * n_cols + k) * size : zero;
                        assert_memory_equal(packed + (k * QRL_GROUP + r) * size, want, size);
                    }
            }
            free(packed);
            free(data);
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(quantized_types), cmocka_unit_test(float_types)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
