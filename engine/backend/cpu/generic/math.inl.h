// Elementwise functions over a vector type V.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_MATH_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_MATH_INL_H_

#include "engine/backend/backend.h"

namespace elserve::cpu {
namespace {

// 2^x by the Taylor polynomial of 2^r, r in [-1/2, 1/2]: relative error 2e-7 with Terms 6; 5e-5 with 4, or 7.5e-5 by
// the vector type's own cubic (for weights that are rounded to bfloat16 next). 0 for -infinity. x up to 127.
template <class V, int Terms = 6>
inline typename V::F Exp2(typename V::F x) {
  if constexpr (Terms == 4 && requires { V::Exp2Cubic(x); }) return V::Exp2Cubic(x);
  x = V::BoundExponent(x);
  const typename V::F n = V::Round(x);
  const typename V::F r = V::Sub(x, n);
  typename V::F p;
  if constexpr (Terms == 6) {
    p = V::Fma(V::Set(1.5403530393381608e-4f), r, V::Set(1.3333558146428443e-3f));
    p = V::Fma(p, r, V::Set(9.618129107628477e-3f));
  } else {
    p = V::Set(9.618129107628477e-3f);
  }
  p = V::Fma(p, r, V::Set(5.550410866482158e-2f));
  p = V::Fma(p, r, V::Set(2.402265069591007e-1f));
  p = V::Fma(p, r, V::Set(6.931471805599453e-1f));
  p = V::Fma(p, r, V::Set(1.0f));
  return V::Scale(p, n);
}

template <class V>
inline typename V::F Exp(typename V::F x) {
  // Bounded, so that infinities stay out of the range reduction; e^-87 is about the least normal float32. The order
  // keeps a NaN.
  x = V::Min(V::Set(88.0f), V::Max(V::Set(-87.0f), x));
  constexpr float kLn2High = 0.693359375f, kLn2Low = -2.12194440e-4f;
  const typename V::F n = V::Round(V::Mul(x, V::Set(1.44269504088896340736f)));
  typename V::F r = V::Fma(n, V::Set(-kLn2High), x);
  r = V::Fma(n, V::Set(-kLn2Low), r);
  typename V::F p = V::Fma(V::Set(1.0f / 5040), r, V::Set(1.0f / 720));
  p = V::Fma(p, r, V::Set(1.0f / 120));
  p = V::Fma(p, r, V::Set(1.0f / 24));
  p = V::Fma(p, r, V::Set(1.0f / 6));
  p = V::Fma(p, r, V::Set(0.5f));
  p = V::Fma(p, r, V::Set(1.0f));
  p = V::Fma(p, r, V::Set(1.0f));
  return V::Scale(p, n);
}

// x Phi(x) = max(x, 0) - |x| Phi(-|x|), where log2 Phi(-|x|) is nearly a polynomial: no division. Absolute error 7e-9
// with 8 degrees, 6e-7 with 5 (for results that are rounded to bfloat16 next). Phi is the normal distribution's.
template <class V, int Degrees>
inline typename V::F Gelu(typename V::F x) {
  static_assert(Degrees == 5 || Degrees == 8);
  // Phi(-12) is below any float32; the order keeps a NaN.
  const typename V::F a = V::Min(V::Set(12.0f), V::Abs(x));
  typename V::F p;
  if constexpr (Degrees == 8) {
    p = V::Fma(V::Set(-1.6903749e-6f), a, V::Set(2.5082984e-5f));
    p = V::Fma(p, a, V::Set(-1.1446111e-4f));
    p = V::Fma(p, a, V::Set(-3.2334609e-4f));
    p = V::Fma(p, a, V::Set(7.3333895e-3f));
    p = V::Fma(p, a, V::Set(-5.2714203e-2f));
    p = V::Fma(p, a, V::Set(-4.5911545e-1f));
    p = V::Fma(p, a, V::Set(-1.1511233f));
    p = V::Fma(p, a, V::Set(-9.9999887e-1f));
  } else {
    p = V::Fma(V::Set(-4.7328396e-4f), a, V::Set(7.0843976e-3f));
    p = V::Fma(p, a, V::Set(-5.1827028e-2f));
    p = V::Fma(p, a, V::Set(-4.599928e-1f));
    p = V::Fma(p, a, V::Set(-1.1507877f));
    p = V::Fma(p, a, V::Set(-1.0000377f));
  }
  const typename V::F minus_phi = V::Sub(V::Zero(), Exp2<V, (Degrees == 8 ? 6 : 4)>(p));
  return V::Fma(a, minus_phi, V::Max(V::Zero(), x));
}

template <class V>
inline typename V::F Sigmoid(typename V::F x) {
  return V::Div(V::Set(1.0f), V::Add(V::Set(1.0f), Exp<V>(V::Sub(V::Zero(), x))));
}

// 2 / (1 + e^-2x) - 1
template <class V>
inline typename V::F Tanh(typename V::F x) {
  return V::Fma(V::Set(2.0f), Sigmoid<V>(V::Add(x, x)), V::Set(-1.0f));
}

// As transformers' ACT2FN. kPrecise: for float32 results.
template <class V, bool kPrecise>
inline typename V::F Activate(Activation activation, typename V::F x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return V::Max(V::Zero(), x);
    case Activation::kGelu:
      return Gelu < V, kPrecise ? 8 : 5 > (x);
    case Activation::kGeluTanh: {
      const typename V::F cube = V::Mul(V::Mul(x, x), x);
      const typename V::F y = V::Mul(V::Set(0.79788456080286536f), V::Fma(V::Set(0.044715f), cube, x));
      const typename V::F half = V::Mul(V::Set(0.5f), x);
      return V::Fma(half, Tanh<V>(y), half);
    }
    case Activation::kGeluQuick:
      return V::Mul(x, Sigmoid<V>(V::Mul(V::Set(1.702f), x)));
    case Activation::kSilu:
      return V::Mul(x, Sigmoid<V>(x));
    case Activation::kTanh:
      return Tanh<V>(x);
  }
  return x;
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_MATH_INL_H_
