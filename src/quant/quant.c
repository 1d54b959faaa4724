/* The table of traits, look-ups, the decoder of a row, error metrics. */
#include "quant/codec.h"

#include <math.h>
#include <string.h>
#include <strings.h>

#include "quant/blocks.h"

static const qrl_traits traits[QRL_TYPE_COUNT] = {
#define QRL_TYPE(id, name, file_id, values, bytes, scales, minima, stepped)                                            \
    [QRL_##id] = {name, file_id, values, bytes, scales, minima, stepped, qrl_unpack_##id, qrl_encode_##id},
#include "quant/types.def"
#undef QRL_TYPE
};

const qrl_traits *qrl_quant_traits(qrl_type type) {
    return &traits[type];
}

bool qrl_type_from_file(uint32_t file_id, qrl_type *out) {
    for (int t = 0; t < QRL_TYPE_COUNT; t++)
        if (traits[t].file_id == file_id) {
            *out = (qrl_type)t;
            return true;
        }
    return false;
}

bool qrl_type_from_name(const char *name, qrl_type *out) {
    for (int t = 0; t < QRL_TYPE_COUNT; t++)
        if (strcasecmp(traits[t].name, name) == 0) {
            *out = (qrl_type)t;
            return true;
        }
    return false;
}

bool qrl_quant_block_lookup(uint32_t file_id, uint32_t *block_values, uint32_t *block_bytes) {
    qrl_type type;
    if (!qrl_type_from_file(file_id, &type))
        return false;
    *block_values = traits[type].block_values;
    *block_bytes = traits[type].block_bytes;
    return true;
}

size_t qrl_row_bytes(qrl_type type, size_t n) {
    const qrl_traits *t = qrl_quant_traits(type);
    return n / t->block_values * t->block_bytes;
}

static void decode_floats(qrl_type type, const unsigned char *row, float *out, size_t n) {
    if (type == QRL_F16)
        for (size_t i = 0; i < n; i++)
            out[i] = qrl_half(row + 2 * i);
    else if (type == QRL_BF16)
        for (size_t i = 0; i < n; i++)
            out[i] = qrl_bf16_to_f32(qrl_u16(row + 2 * i));
    else
        for (size_t i = 0; i < n; i++)
            out[i] = qrl_bits_f32(qrl_u32(row + 4 * i));
}

void qrl_decode_row(qrl_type type, const unsigned char *row, float *out, size_t n) {
    const qrl_traits *t = qrl_quant_traits(type);
    if (!t->unpack) {
        decode_floats(type, row, out, n);
        return;
    }
    qrl_qunit u;
    for (size_t unit = 0; unit < n / QRL_UNIT; unit++, out += QRL_UNIT) {
        t->unpack(row, unit, &u);
        for (int i = 0; i < QRL_UNIT; i++) {
            const float product = u.scale[i / 16] * (float)u.q[i];
            out[i] = product - u.min[i / 16]; /* subtracting +0 keeps the sign of a zero */
        }
    }
}

void qrl_quant_error_add(qrl_quant_error *e, const float *source, const float *decoded, size_t n) {
    for (size_t start = 0; start < n; start += QRL_UNIT) {
        const size_t count = n - start < QRL_UNIT ? n - start : QRL_UNIT;
        double block = 0;
        for (size_t i = start; i < start + count; i++) {
            const double diff = (double)source[i] - (double)decoded[i];
            block += diff * diff;
            e->sum_sq += (double)source[i] * (double)source[i];
        }
        e->sum_sq_error += block;
        const double rms = sqrt(block / (double)count);
        if (rms > e->worst_block_rms) {
            e->worst_block_rms = rms;
            e->worst_block = (e->values + start) / QRL_UNIT;
        }
    }
    e->values += n;
}

void qrl_quant_error_join(qrl_quant_error *e, const qrl_quant_error *next) {
    if (next->worst_block_rms > e->worst_block_rms) {
        e->worst_block_rms = next->worst_block_rms;
        e->worst_block = e->values / QRL_UNIT + next->worst_block;
    }
    e->sum_sq_error += next->sum_sq_error;
    e->sum_sq += next->sum_sq;
    e->values += next->values;
}

/* One piece that fits the stack: at most CHECKED values. */
enum { CHECKED = 512 };
static qrl_status quantize_piece(qrl_type type, const float *x, const float *importance, size_t n, unsigned char *out,
                                 qrl_quant_error *e, const char *where, uint64_t first, qrl_error *err) {
    float decoded[CHECKED];
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i]))
            return qrl_fail(err, QRL_ERR_FORMAT,
                            "%s: value %llu is %s, and only finite values can be quantized; repair or convert the "
                            "model anew",
                            where, (unsigned long long)(first + i), isnan(x[i]) ? "not a number" : "infinite");
    traits[type].encode(x, importance, out, n);
    qrl_decode_row(type, out, decoded, n);
    for (size_t i = 0; i < n; i++) {
        if (isfinite(decoded[i]))
            continue;
        /* a block's scale is to blame, and so its largest value */
        size_t largest = i - i % traits[type].block_values;
        for (size_t k = largest; k < n && k / traits[type].block_values == i / traits[type].block_values; k++)
            largest = fabsf(x[k]) > fabsf(x[largest]) ? k : largest;
        return qrl_fail(err, QRL_ERR_UNSUPPORTED,
                        "%s: value %llu, %g, is too large for %s; choose bf16 or f32 for this tensor", where,
                        (unsigned long long)(first + largest), (double)x[largest], traits[type].name);
    }
    if (e)
        qrl_quant_error_add(e, x, decoded, n);
    return QRL_OK;
}

qrl_status qrl_quantize(qrl_type type, const float *x, const float *importance, size_t n, unsigned char *out,
                        qrl_quant_error *e, const char *where, uint64_t first, qrl_error *err) {
    const qrl_traits *t = qrl_quant_traits(type);
    if (!t->encode)
        return qrl_fail(err, QRL_ERR_UNSUPPORTED, "%s: Quarrel reads %s but cannot write it; choose another type",
                        where, t->name);
    if (n % t->block_values != 0)
        return qrl_fail(err, QRL_ERR_ARGUMENT, "%s: %zu values are no multiple of the %u of a block of %s", where, n,
                        t->block_values, t->name);
    for (size_t i = 0; i < n; i += CHECKED) {
        const size_t piece = n - i < CHECKED ? n - i : CHECKED;
        QRL_TRY(quantize_piece(type, x + i, importance ? importance + i : NULL, piece, out + qrl_row_bytes(type, i), e,
                               where, first + i, err));
    }
    return QRL_OK;
}
