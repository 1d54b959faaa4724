/* The kernel table of this instruction set. */
#include <string.h>

#include "cpu/kernels.h"
#include "cpu/kernels/vec_avx2.h"

#define SET avxvnni
#include "cpu/kernels/table_impl.h"
