/* The kernel table of this instruction set. */
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/kernels/vec_avx2.h"

#define SET avx2
#include "cpu/kernels/table_impl.h"
