/* Block types: one table of traits, the scalar reference for decoding and encoding, error metrics.
 * Pure functions, thread-safe.
 *
 * Every quantized type is, 32 values at a time, small integers with one or two float scales and
 * minima (qrl_qunit). `unpack` produces that form; the decoder, the scalar kernels and the packers of
 * the vector kernels are all made from it, so a block's meaning is written down once. */
#ifndef QRL_QUANT_H
#define QRL_QUANT_H

#include "base/status.h"

typedef enum qrl_type {
#define QRL_TYPE(id, name, file_id, values, bytes, scales, minima, stepped) QRL_##id,
#include "quant/types.def"
#undef QRL_TYPE
    QRL_TYPE_COUNT
} qrl_type;

enum { QRL_UNIT = 32 }; /* values a unit */

/* 32 consecutive values: value[i] = scale[i / 16] * q[i] - min[i / 16], each operation rounded to
 * float. Types with one scale a unit set both entries to it; types without minima set min to +0. */
typedef struct qrl_qunit {
    int8_t q[QRL_UNIT];
    float scale[2];
    float min[2];
    float super; /* of stepped types: scale[i] = super * step[i], exactly */
    int step[2]; /* -128 .. 127 */
} qrl_qunit;

typedef struct qrl_traits {
    const char *name;
    uint32_t file_id;
    uint32_t block_values;
    uint32_t block_bytes;
    int scales;            /* a unit of 32: 1 or 2; 0 for the float types */
    bool has_min, stepped; /* see types.def */
    /* Unit `unit` of the row that starts at `row`; NULL for the float types. */
    void (*unpack)(const unsigned char *row, size_t unit, qrl_qunit *out);
    /* Encodes n finite values (a multiple of block_values) from x; importance[n], >= 0, weighs each value's
     * squared error and may be NULL. NULL where Quarrel only reads the type. qrl_quantize is the checked way. */
    void (*encode)(const float *x, const float *importance, unsigned char *out, size_t n);
} qrl_traits;

const qrl_traits *qrl_quant_traits(qrl_type type);
/* From a GGUF type id; false when unknown. */
bool qrl_type_from_file(uint32_t file_id, qrl_type *out);
/* From a name, case ignored; false when unknown. */
bool qrl_type_from_name(const char *name, qrl_type *out);
/* The lookup that gguf/ asks for. */
bool qrl_quant_block_lookup(uint32_t file_id, uint32_t *block_values, uint32_t *block_bytes);
/* Bytes of a row of n values; n must be a multiple of the block. */
size_t qrl_row_bytes(qrl_type type, size_t n);
/* Decodes n values (a multiple of the block) from row into out[n]: bit-equal to ggml's. */
void qrl_decode_row(qrl_type type, const unsigned char *row, float *out, size_t n);

/* How far a decoded row is from its source. */
typedef struct qrl_quant_error {
    double sum_sq_error, sum_sq; /* relative rms = sqrt(sum_sq_error / sum_sq) */
    double worst_block_rms;      /* the largest rms error of a block of 32 */
    uint64_t worst_block;        /* its index, in units of 32 values */
    uint64_t values;
} qrl_quant_error;
void qrl_quant_error_add(qrl_quant_error *e, const float *source, const float *decoded, size_t n);
/* Adds what was measured on the values that follow those of *e. */
void qrl_quant_error_join(qrl_quant_error *e, const qrl_quant_error *next);

/* Encodes n values (a multiple of the block) into out[qrl_row_bytes(type, n)], checks them and adds their
 * error to *e (may be NULL). Fails, naming `where` (the file and tensor) and the index, when a value is
 * not finite or does not fit the type; first is the index of x[0] in that tensor. */
qrl_status qrl_quantize(qrl_type type, const float *x, const float *importance, size_t n, unsigned char *out,
                        qrl_quant_error *e, const char *where, uint64_t first, qrl_error *err);

#endif
