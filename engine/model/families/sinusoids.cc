#include "engine/model/families/sinusoids.h"

#include <cmath>

namespace elserve {

std::vector<float> Sinusoids(int64_t rows, int64_t d) {
  std::vector<float> table(rows * d);
  const int64_t sines = (d + 1) / 2;
  for (int64_t p = 0; p < rows; ++p) {
    for (int64_t j = 0; j < d; ++j) {
      const int64_t i = j < sines ? j : j - sines;
      const double angle =
          static_cast<double>(p) / std::pow(10000.0, 2.0 * static_cast<double>(i) / static_cast<double>(d));
      table[p * d + j] = static_cast<float>(j < sines ? std::sin(angle) : std::cos(angle));
    }
  }
  return table;
}

}  // namespace elserve
