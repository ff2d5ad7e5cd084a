// Numbers of rows that the device computes: a step's positions are padded to the next one.
#ifndef ELSERVE_ENGINE_BACKEND_CUDA_BUCKETS_H_
#define ELSERVE_ENGINE_BACKEND_CUDA_BUCKETS_H_

#include <algorithm>
#include <vector>

namespace elserve::cuda {

// The least of 1, 2, 4, 8, 16, 32, 48, 64, 96, 128, ... that holds `rows`, but not more than `most`; 0 for no rows.
inline int Bucket(int rows, int most) {
  int bucket = rows <= 0 ? 0 : 1;
  while (bucket < rows && bucket < 32) bucket *= 2;
  if (rows > 32) bucket = rows <= 64 ? (rows + 15) / 16 * 16 : (rows + 31) / 32 * 32;
  return std::min(bucket, most);
}

// All of them, ascending; the last is `most`.
inline std::vector<int> Buckets(int most) {
  std::vector<int> buckets;
  for (int rows = 1; rows <= most; rows = buckets.back() + 1) buckets.push_back(Bucket(rows, most));
  return buckets;
}

}  // namespace elserve::cuda

#endif  // ELSERVE_ENGINE_BACKEND_CUDA_BUCKETS_H_
