// What is not plain C++ in kernels, all inline PTX included: shared memory, copies into it, matrix fragments, the
// matrix product, the exponential. The emulation of tests/ has a file of the same name and contents for the host
// compiler.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_
#define ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace elserve::cuda {

// The block's dynamic shared memory, aligned for every use of it.
__device__ __forceinline__ unsigned char* DynamicShared() {
  extern __shared__ __align__(128) unsigned char shared[];
  return shared;
}

// The block's variable of type T in static shared memory: the one of its kernel.
template <typename T>
__device__ __forceinline__ T& StaticShared() {
  __shared__ T shared;
  return shared;
}

__device__ __forceinline__ uint32_t SharedAddress(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

// Copies 16 bytes from global to shared memory, past the first-level cache, without waiting. Not `valid`: writes zeros
// and reads nothing.
__device__ __forceinline__ void CopyAsync16(void* shared, const void* global, bool valid = true) {
  const int bytes = valid ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(SharedAddress(shared)), "l"(global), "r"(bytes)
               : "memory");
}
// Closes the group of the copies that this thread started.
__device__ __forceinline__ void CommitCopies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
// Waits until at most kPending of this thread's groups are under way. Other threads see the bytes after a barrier.
template <int kPending>
__device__ __forceinline__ void WaitCopies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending) : "memory");
}

// Four 8x8 matrices of 16-bit values: lane l gives the address of row l % 8 of matrix l / 8 (16 bytes, aligned) and
// gets, of matrix i, the values 2 * (l % 4) and the next of row l / 4 in r[i].
__device__ __forceinline__ void LoadMatrix4(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}
// The same, each matrix transposed.
__device__ __forceinline__ void LoadMatrix4Transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];\n"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(SharedAddress(row))
               : "memory");
}

// c += a b, a: 16 x 16 by rows, b: 16 x 8 by columns, bfloat16; c: 16 x 8 float32. With g = lane / 4, t = lane % 4:
// a[0]: (g, 2t), (g, 2t + 1); a[1]: row g + 8; a[2]: columns + 8; a[3]: both. b0: (2t, g), (2t + 1, g); b1: rows + 8.
// c[0], c[1]: (g, 2t), (g, 2t + 1); c[2], c[3]: row g + 8.
__device__ __forceinline__ void MultiplyAdd(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 2^x to about 2 units of the last place; 0 for -infinity.
__device__ __forceinline__ float Exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
  return y;
}

// The value, of which the compiler knows nothing: what is computed from it in a loop stays in the loop, and its
// registers are free outside.
__device__ __forceinline__ int Opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// Rounded to bfloat16, `low` in the lower half.
__device__ __forceinline__ uint32_t PackBFloat16(float low, float high) {
  uint32_t packed;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;\n" : "=r"(packed) : "f"(high), "f"(low));
  return packed;
}

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_PTX_CUH_
