/* Random activations and weights for the tests of the CPU backend. */
#ifndef QRL_TESTS_CPU_RANDOM_H
#define QRL_TESTS_CPU_RANDOM_H

#include "support.h"

#include "quant/quant.h"

#include <math.h>
#include <stdlib.h>

static uint64_t rng_state = 1;

static uint32_t rng(void) {
    rng_state = rng_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng_state >> 33);
}
/* About normal, of unit size, with an outlier now and then. */
static float rng_float(void) {
    float s = 0;
    for (int i = 0; i < 4; i++)
        s += (float)(rng() & 0xffff) / 65536.0f - 0.5f;
    return rng() % 97 == 0 ? 20.0f * s : 1.7f * s;
}
static inline float *random_floats(size_t n) {
    float *x = malloc(n * sizeof *x);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = rng_float();
    return x;
}

/* Random bytes, block by block, drawn again until scales and minima are ordinary numbers. */
static inline unsigned char *random_matrix(qrl_type type, size_t n_rows, size_t n_cols) {
    const qrl_traits *t = qrl_quant_traits(type);
    const size_t blocks = n_rows * n_cols / t->block_values;
    unsigned char *data = malloc(blocks * t->block_bytes);
    assert_non_null(data);
    for (size_t b = 0; b < blocks; b++) {
        unsigned char *block = data + b * t->block_bytes;
        for (bool ok = false; !ok;) {
            for (size_t i = 0; i < t->block_bytes; i++)
                block[i] = (unsigned char)rng();
            ok = true;
            if (t->scales == 0) {
                float x;
                qrl_decode_row(type, block, &x, 1);
                ok = isfinite(x) && fabsf(x) < 100.0f;
            }
            for (size_t u = 0; t->scales && u < t->block_values / QRL_UNIT; u++) {
                qrl_qunit q;
                t->unpack(block, u, &q);
                for (int i = 0; i < 2; i++)
                    ok = ok && fabsf(q.scale[i]) < 100.0f && fabsf(q.min[i]) < 100.0f;
            }
        }
    }
    return data;
}

#endif
