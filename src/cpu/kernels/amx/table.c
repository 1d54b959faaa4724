/* The kernel table of this instruction set. */
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/kernels/vec_avx512.h"

#define SET amx
#include "cpu/kernels/table_impl.h"
