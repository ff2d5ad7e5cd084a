// Loops over whole rows.
#ifndef ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_
#define ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_

#include <span>
#include <vector>

namespace elserve {

// Whether every value is a number below +infinity.
bool AllNumbers(std::span<const float> values);

// -infinity of no values. None may be NaN.
float GreatestOf(std::span<const float> values);
// Likewise the least; +infinity of no values.
float LeastOf(std::span<const float> values);

// exp(x) for x of 0 or less, to 2e-7 of it; 0 where it would be no normal number, as for -infinity.
float ExpOfNegative(float x);

// exp(x - greatest) of each value.
void ExpOfDifferences(std::span<const float> values, float greatest, std::vector<float>* out);

// The sum of exp(x - greatest), and of the values. The order of the terms is fixed by their number.
double SumOfExp(std::span<const float> values, float greatest);
double SumOf(std::span<const float> values);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_SEARCH_ROW_SUMS_H_
