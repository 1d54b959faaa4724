/* The kernel table of an instruction set with vectors: include once in a file of its own, after defining SET (its
 * name in identifiers) and including its vec header. gemm.c of the same folder has the products. */
#define PASTE_3(a, b, c) a##b##c
#define PASTE(a, b, c)   PASTE_3(a, b, c)
#define KERNEL(name)     PASTE(SET, _, name)
#include "cpu/kernels/lanes_impl.h"

#include "backend/backend.h"
#include "cpu/kernels/unroll.h"
#include "cpu/kernels/quantize_avx2.h"
#include "cpu/kernels/kv_impl.h"
#include "cpu/kernels/attend_impl.h"
#include "cpu/kernels/limits_impl.h"
extern const qrl_gemm PASTE(qrl_, SET, _gemm)[QRL_TYPE_COUNT];

const qrl_kernels PASTE(qrl_kernels_, SET, ) = {
    .quantize = KERNEL(quantize),
    .quantize_unit = KERNEL(quantize_unit),
    .tile_log2 = HAVE_TILES ? 4 : 3,
    .gemm = PASTE(qrl_, SET, _gemm),
    .attend = KERNEL(attend),
    .quantize_query = KERNEL(quantize_query),
    .rotate = KERNEL(rotate),
    .put_q8 = KERNEL(put_q8),
    .unpack_kv = KERNEL(unpack_kv),
    .mix = KERNEL(mix),
    .to_f16 = KERNEL(to_f16),
    .rope = KERNEL(rope),
    .norm_rms = KERNEL(norm_rms),
    .norm_layer = KERNEL(norm_layer),
    .activate = ACTIVATIONS,
    .softcap = KERNEL(softcap),
    .exp = KERNEL(exp),
    .limit_int8 = KERNEL(limit_int8),
    .limit_f32 = KERNEL(limit_f32),
    .limit_bf16 = LIMIT_BF16,
    .limit_tiles = LIMIT_TILES,
    .limit_read = KERNEL(limit_read),
};
