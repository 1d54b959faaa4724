/* The packed products of this instruction set: gemm_impl.h over its vectors and tiles. */
#include "base/half.h"
#include "cpu/kernels.h"
#include "cpu/kernels/vec_avx512.h"

#define KERNEL(name) qrl_amx_##name
extern const qrl_gemm qrl_amx_gemm[QRL_TYPE_COUNT];
#include "cpu/kernels/gemm_impl.h"
