// Elementwise functions over a vector type V.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_MATH_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_MATH_INL_H_

#include "engine/backend/backend.h"

namespace elserve::cpu {
namespace {

// 2^x by the Taylor polynomial of 2^r, r in [-1/2, 1/2]: relative error 2e-7 with Terms 6, 5e-5 with 4 (for weights
// that are rounded to bfloat16 next). 0 for -infinity. x up to 127.
template <class V, int Terms = 6>
inline typename V::F Exp2(typename V::F x) {
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

// Abramowitz and Stegun 7.1.26: absolute error 1.5e-7.
template <class V>
inline typename V::F Erf(typename V::F x) {
  const typename V::F a = V::Abs(x);
  const typename V::F t = V::Div(V::Set(1.0f), V::Fma(V::Set(0.3275911f), a, V::Set(1.0f)));
  typename V::F p = V::Fma(V::Set(1.061405429f), t, V::Set(-1.453152027f));
  p = V::Fma(p, t, V::Set(1.421413741f));
  p = V::Fma(p, t, V::Set(-0.284496736f));
  p = V::Fma(p, t, V::Set(0.254829592f));
  p = V::Mul(p, t);
  const typename V::F e = Exp<V>(V::Sub(V::Zero(), V::Mul(x, x)));
  return V::CopySign(V::Sub(V::Set(1.0f), V::Mul(p, e)), x);
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

// As transformers' ACT2FN.
template <class V>
inline typename V::F Activate(Activation activation, typename V::F x) {
  switch (activation) {
    case Activation::kNone:
      return x;
    case Activation::kRelu:
      return V::Max(V::Zero(), x);
    case Activation::kGelu: {
      const typename V::F half = V::Mul(V::Set(0.5f), x);
      return V::Fma(half, Erf<V>(V::Mul(x, V::Set(0.70710678118654752f))), half);
    }
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
