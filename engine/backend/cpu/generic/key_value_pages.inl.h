// Keys and values of one head in packed pages of 64 tokens, as the products of packed_attention.inl.h read them.
#ifndef ELSERVE_ENGINE_BACKEND_CPU_GENERIC_KEY_VALUE_PAGES_INL_H_
#define ELSERVE_ENGINE_BACKEND_CPU_GENERIC_KEY_VALUE_PAGES_INL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "engine/backend/cpu/kernels.h"

namespace elserve::cpu {
namespace {

// A page's keys, turned: [64 / panel][units][panel columns], a column a token.
template <class S>
void PackKeys(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page) {
  constexpr int kPanel = 2 * S::Vec::kLanes;
  const int units = head_dim / S::kPack;
  for (int first = 0; first < kPageTokens; first += kPanel) {
    uint32_t* to = page + first * units;
    const std::byte* from = rows + first * stride;
    const int columns = tokens - first < kPanel ? (tokens > first ? tokens - first : 0) : kPanel;
    for (int u = 0; u < units; ++u) {
      for (int t = 0; t < columns; ++t) std::memcpy(to + u * kPanel + t, from + t * stride + 4 * u, 4);
      for (int t = columns; t < kPanel; ++t) to[u * kPanel + t] = 0;
    }
  }
}

// A page's values: [panels][64 / pack][panel columns], kPack tokens a unit.
template <class S>
void PackValues(const std::byte* rows, int64_t stride, int tokens, int head_dim, uint32_t* page) {
  using V = typename S::Vec;
  using State = typename S::State;
  constexpr int kPanel = 2 * V::kLanes, kUnits = kPageTokens / S::kPack;
  const int panels = (head_dim + kPanel - 1) / kPanel;
  for (int panel = 0; panel < panels; ++panel) {
    const int columns = head_dim - panel * kPanel < kPanel ? head_dim - panel * kPanel : kPanel;
    for (int u = 0; u < kUnits; ++u) {
      const int t = u * S::kPack;
      const auto* even = reinterpret_cast<const State*>(rows + t * stride) + panel * kPanel;
      const auto* odd = reinterpret_cast<const State*>(rows + (t + 1) * stride) + panel * kPanel;
      uint32_t* to = page + (panel * kUnits + u) * kPanel;
      if (columns == kPanel && t + S::kPack <= tokens) {
        if constexpr (S::kPack == 1) {
          std::memcpy(to, even, kPanel * sizeof(State));
        } else {
          typename V::I a, b;
          V::ZipBf16(reinterpret_cast<const uint32_t*>(even), reinterpret_cast<const uint32_t*>(odd), &a, &b);
          typename V::F first, second;
          V::Unzip(V::AsFloat(a), V::AsFloat(b), &first, &second);
          V::Store(reinterpret_cast<float*>(to), first);
          V::Store(reinterpret_cast<float*>(to) + V::kLanes, second);
        }
        continue;
      }
      for (int i = 0; i < kPanel; ++i) {
        const State x = i < columns && t < tokens ? even[i] : State{};
        const State y = S::kPack == 2 && i < columns && t + 1 < tokens ? odd[i] : State{};
        to[i] = S::Unit(x, y);
      }
    }
  }
}

// Units of one head's keys, and of its keys and values, in a page.
template <class S>
constexpr int64_t KeyUnits(int head_dim) {
  return (head_dim + S::kPack - 1) / S::kPack * kPageTokens;
}
template <class S>
int64_t PageUnits(int head_dim) {
  return KeyUnits<S>(head_dim) + RoundUp(head_dim, 2 * S::Vec::kLanes) * (kPageTokens / S::kPack);
}

template <class S>
void PackPage(const KeyValuePage& p) {
  PackKeys<S>(p.keys, p.stride, p.tokens, p.head_dim, p.page);
  PackValues<S>(p.values, p.stride, p.tokens, p.head_dim, p.page + KeyUnits<S>(p.head_dim));
}

}  // namespace
}  // namespace elserve::cpu

#endif  // ELSERVE_ENGINE_BACKEND_CPU_GENERIC_KEY_VALUE_PAGES_INL_H_
