// The emulated instructions against what the manual says of them, lane by lane in plain arithmetic.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/backend/cpu/emulation/amx.h"
#include "tests/engine/backend/cpu/emulation/avx512_vnni.h"
// What kernels do with lanes alone, behind the instructions.
#include "engine/backend/cpu/amx/tile_layout.inl.h"

namespace elserve::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The thread's floating-point mode for a while: FTZ and DAZ, or neither.
class Mode {
 public:
  explicit Mode(bool flush) : before_(_mm_getcsr()) { _mm_setcsr(flush ? before_ | 0x8040 : before_ & ~0x8040u); }
  ~Mode() { _mm_setcsr(before_); }

 private:
  const unsigned before_;
};

struct Lanes {
  float f[16];
  Lanes() = default;
  explicit Lanes(float x) { std::fill_n(f, 16, x); }
  explicit Lanes(__m512 v) { std::memcpy(f, &v, sizeof(f)); }
  explicit Lanes(__m512i v) { std::memcpy(f, &v, sizeof(f)); }
  __m512 v() const { return _mm512_loadu_ps(f); }
  __m512i i() const { return _mm512_loadu_si512(f); }
  uint32_t bits(int lane) const { return std::bit_cast<uint32_t>(f[lane]); }
};

// Bits of every kind: zeros, denormals, powers at the ends, infinities, NaN, and any.
uint32_t AnyBits(std::mt19937& rng) {
  switch (const uint32_t sign = rng() & 0x80000000u; rng() % 8) {
    case 0:
      return sign;
    case 1:
      return sign | (rng() & 0x007fffff);
    case 2:
      return sign | 0x7f800000 | (rng() % 3 == 0 ? rng() & 0x007fffff : 0);
    case 3:
      return sign | 0x7e800000 | (rng() & 0x00ffffff);
    case 4:
      return sign | (rng() & 0x01ffffff);
    default:
      return sign | 0x3e000000 | (rng() & 0x03ffffff);
  }
}
Lanes AnyLanes(std::mt19937& rng) {
  Lanes r;
  for (float& x : r.f) x = std::bit_cast<float>(AnyBits(rng));
  return r;
}

// In the thread's mode of no flushing.
float Flush(float x) { return std::fpclassify(x) == FP_SUBNORMAL ? std::copysign(0.0f, x) : x; }
float Fma(float a, float b, float c) { return Flush(std::fma(Flush(a), Flush(b), Flush(c))); }
float Element(uint32_t pair, int element) { return std::bit_cast<float>(element ? pair & 0xffff0000u : pair << 16); }

void ExpectSame(float got, float expected) {
  if (std::isnan(expected)) {
    EXPECT_TRUE(std::isnan(got)) << got;
  } else {
    EXPECT_EQ(std::bit_cast<uint32_t>(got), std::bit_cast<uint32_t>(expected)) << got << " for " << expected;
  }
}

TEST(EmulatedBf16, DotIsTwoFmasTheUpperPairFirst) {
  std::mt19937 rng(1);
  for (int round = 0; round < 20000; ++round) {
    const Lanes sum = AnyLanes(rng), a = AnyLanes(rng), b = AnyLanes(rng);
    float expected[16];
    for (int i = 0; i < 16; ++i) {
      expected[i] = Fma(Element(a.bits(i), 1), Element(b.bits(i), 1), sum.f[i]);
      expected[i] = Fma(Element(a.bits(i), 0), Element(b.bits(i), 0), expected[i]);
    }
    for (const bool flush : {false, true}) {
      Lanes got;
      {
        const Mode mode(flush);
        got = Lanes(_mm512_dpbf16_ps(sum.v(), a.i(), b.i()));
      }
      for (int i = 0; i < 16; ++i) ExpectSame(got.f[i], expected[i]);
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  // 2^60 of element 1 has gone from the sum before the 1 of element 0 comes.
  const __m512i a = _mm512_set1_epi32(0x5d803f80), ones = _mm512_set1_epi32(0x3f803f80);
  EXPECT_EQ(Lanes(_mm512_dpbf16_ps(_mm512_set1_ps(-0x1p60f), a, ones)).f[3], 1.0f);
}

TEST(EmulatedBf16, RoundsToNearestEven) {
  std::mt19937 rng(2);
  for (int round = 0; round < 20000; ++round) {
    Lanes a = AnyLanes(rng);
    if (round % 2) a.f[5] = std::bit_cast<float>((a.bits(5) & 0xffff0000) | 0x8000);  // halfway
    uint16_t got[16];
    for (const bool flush : {false, true}) {
      {
        const Mode mode(flush);
        const __m256i rounded = _mm512_cvtneps_pbh(a.v());
        std::memcpy(got, &rounded, sizeof(got));
      }
      for (int i = 0; i < 16; ++i) {
        const float x = Flush(a.f[i]), back = Element(got[i], 0);
        if (std::isnan(x)) {
          EXPECT_EQ(got[i], a.bits(i) >> 16 | 0x40);
        } else if (std::isinf(back) || x == 0) {
          EXPECT_TRUE(x == back || std::abs(x) >= 0x1.ffp127f) << x;
        } else {
          // Within half a unit, and even at just that.
          const double off = std::abs(static_cast<double>(x) - back), half = std::ldexp(1.0, std::ilogb(x) - 8);
          EXPECT_TRUE(off < half || (off == half && got[i] % 2 == 0)) << x << " became " << back;
        }
      }
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

TEST(EmulatedBf16, RoundsTwoVectorsTheSecondBelow) {
  std::mt19937 rng(5);
  for (int round = 0; round < 1000; ++round) {
    const Lanes low = AnyLanes(rng), high = AnyLanes(rng);
    const __m512i both = _mm512_cvtne2ps_pbh(high.v(), low.v());
    const __m256i halves[2] = {_mm512_cvtneps_pbh(low.v()), _mm512_cvtneps_pbh(high.v())};
    ASSERT_EQ(std::memcmp(&both, halves, sizeof(both)), 0) << "round " << round;
  }
}

TEST(EmulatedAvx512, ScalefRoundsOnceAndKnowsInfinities) {
  std::mt19937 rng(3);
  for (int round = 0; round < 20000; ++round) {
    Lanes p = AnyLanes(rng), n;
    for (float& x : n.f) x = static_cast<float>(static_cast<int>(rng() % 600) - 300) + (rng() % 4) * 0.25f;
    const Lanes got(_mm512_scalef_ps(p.v(), n.v()));
    for (int i = 0; i < 16; ++i) ExpectSame(got.f[i], std::ldexp(p.f[i], static_cast<int>(std::floor(n.f[i]))));
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
  const auto scale = [](float p, float n) {
    return Lanes(_mm512_scalef_ps(_mm512_set1_ps(p), _mm512_set1_ps(n))).f[9];
  };
  EXPECT_EQ(scale(1.5f, -kInfinity), 0.0f);
  EXPECT_EQ(scale(1.5f, kInfinity), kInfinity);
  EXPECT_EQ(scale(-1.5f, 1e30f), -kInfinity);
  EXPECT_EQ(scale(kInfinity, -1e30f), kInfinity);
  EXPECT_TRUE(std::isnan(scale(1.0f, NAN)));
  EXPECT_TRUE(std::isnan(scale(NAN, -kInfinity)));
  EXPECT_TRUE(std::isnan(scale(0.0f, kInfinity)));
}

// Where lanes go and which are touched: each lane holds its number.
TEST(EmulatedAvx512, LanesAndMasks) {
  Lanes a, b;
  for (int i = 0; i < 16; ++i) a.f[i] = static_cast<float>(i), b.f[i] = static_cast<float>(100 + i);
  for (int n = 0; n <= 16; ++n) {
    const auto mask = static_cast<__mmask16>((1u << n) - 1);
    // Exactly as long as the mask: the address sanitizer watches the end.
    const std::vector<float> source(a.f, a.f + n);
    const Lanes loaded(_mm512_maskz_loadu_ps(mask, source.data()));
    std::vector<float> stored(n);
    _mm512_mask_storeu_ps(stored.data(), mask, b.v());
    const Lanes moved(_mm512_mask_mov_epi32(a.i(), mask, b.i()));
    const Lanes kept(_mm512_maskz_mov_ps(mask, b.v()));
    for (int i = 0; i < 16; ++i) {
      EXPECT_EQ(loaded.f[i], i < n ? a.f[i] : 0.0f);
      EXPECT_EQ(moved.f[i], i < n ? b.f[i] : a.f[i]);
      EXPECT_EQ(kept.f[i], i < n ? b.f[i] : 0.0f);
    }
    EXPECT_EQ(stored, std::vector<float>(b.f, b.f + n));
    std::vector<uint16_t> halves(n);
    for (int i = 0; i < n; ++i) halves[i] = static_cast<uint16_t>(65535 - i);
    const __m256i low = _mm256_maskz_loadu_epi16(mask, halves.data());
    const Lanes wide(_mm512_cvtepu16_epi32(low));
    for (int i = 0; i < 16; ++i) EXPECT_EQ(wide.bits(i), i < n ? 65535u - i : 0u);
    std::vector<uint16_t> back(n);
    _mm256_mask_storeu_epi16(back.data(), mask, _mm512_cvtepi32_epi16(wide.i()));
    EXPECT_EQ(back, halves);
  }
  const __m512i index = _mm512_setr_epi32(31, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 15);
  const Lanes picked(_mm512_permutex2var_ps(a.v(), index, b.v()));
  for (int i = 1; i < 15; ++i) EXPECT_EQ(picked.f[i], i % 2 ? i / 2 : 99 + i / 2);
  EXPECT_EQ(picked.f[0], 115);
  EXPECT_EQ(picked.f[15], 15);
  EXPECT_EQ(_mm512_cmp_ps_mask(a.v(), _mm512_set1_ps(9), _CMP_GT_OQ), 0xfc00);
  EXPECT_EQ(_mm512_reduce_add_ps(a.v()), 120);
  EXPECT_EQ(_mm512_reduce_max_ps(b.v()), 115);
  // Whole quarters, and lanes of a gather.
  const Lanes quarters(_mm512_shuffle_i32x4(a.i(), b.i(), 0xB1));
  for (int i = 0; i < 16; ++i) {
    constexpr int kFirst[4] = {4, 0, 112, 108};
    EXPECT_EQ(quarters.f[i], kFirst[i / 4] + i % 4);
  }
  const __m512i two_times[2] = {b.i(), b.i()};
  EXPECT_EQ(Lanes(_mm512_i32gather_ps(index, two_times, 4)).f[2], 100);
  const Lanes backwards(_mm512_i32gather_ps(
      _mm512_setr_epi32(0, -1, -2, -3, -4, -5, -6, -7, -8, -9, -10, -11, -12, -13, -14, -15), a.f + 15, 4));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(backwards.f[i], 15 - i);
  const Lanes masked(_mm512_mask_mov_ps(a.v(), 0x8001, b.v()));
  for (int i = 0; i < 16; ++i) EXPECT_EQ(masked.f[i], i == 0 || i == 15 ? b.f[i] : a.f[i]);
  // Within each 128 bits.
  Lanes x, y;
  for (int i = 0; i < 16; ++i) {
    x.f[i] = std::bit_cast<float>(2u * i | (2u * i + 1) << 16);
    y.f[i] = std::bit_cast<float>((100u + 2 * i) | (101u + 2 * i) << 16);
  }
  const Lanes low(_mm512_unpacklo_epi16(x.i(), y.i())), high(_mm512_unpackhi_epi16(x.i(), y.i()));
  for (uint32_t i = 0; i < 16; ++i) {
    const uint32_t column = i / 4 * 8 + i % 4;
    EXPECT_EQ(low.bits(i), column | (100 + column) << 16);
    EXPECT_EQ(high.bits(i), (column + 4) | (104 + column) << 16);
  }
}

TEST(EmulatedAvx512, UnpacksAndPermutes) {
  uint16_t a[32], b[32];
  for (int i = 0; i < 32; ++i) a[i] = static_cast<uint16_t>(i), b[i] = static_cast<uint16_t>(100 + i);
  const __m512i x = _mm512_loadu_si512(a), y = _mm512_loadu_si512(b);
  const auto halves = [](__m512i v) {
    std::vector<int> r(32);
    for (int i = 0; i < 32; ++i) {
      uint16_t half;
      std::memcpy(&half, reinterpret_cast<const char*>(&v) + 2 * i, 2);
      r[i] = half;
    }
    return r;
  };
  for (const bool high : {false, true}) {
    const std::vector<int> of32 = halves(high ? _mm512_unpackhi_epi32(x, y) : _mm512_unpacklo_epi32(x, y));
    const std::vector<int> of64 = halves(high ? _mm512_unpackhi_epi64(x, y) : _mm512_unpacklo_epi64(x, y));
    for (int i = 0; i < 32; ++i) {
      const int quarter = i / 8 * 8, at = i % 8, first = quarter + 4 * high;
      EXPECT_EQ(of32[i], (at / 2 % 2 ? 100 : 0) + first + at / 4 * 2 + at % 2);
      EXPECT_EQ(of64[i], (at / 4 ? 100 : 0) + first + at % 4);
    }
  }
  uint16_t index[32];
  for (int i = 0; i < 32; ++i) index[i] = static_cast<uint16_t>(i % 2 ? 32 + i / 2 : i / 2);
  const __m512i order = _mm512_loadu_si512(index);
  const std::vector<int> two = halves(_mm512_permutex2var_epi16(x, order, y));
  const std::vector<int> one = halves(_mm512_permutexvar_epi16(order, y));
  for (int i = 0; i < 32; ++i) {
    EXPECT_EQ(two[i], i % 2 ? 100 + i / 2 : i / 2);
    EXPECT_EQ(one[i], 100 + i / 2);
  }
}

TEST(EmulatedAvx512, ReducesToTheFractionAboveTheFloor) {
  for (const float x : {-3.25f, -0.0f, 2.75f, 1e9f}) {
    EXPECT_EQ(Lanes(_mm512_reduce_ps(_mm512_set1_ps(x), 0x09)).f[7], x - std::floor(x));
  }
  EXPECT_TRUE(std::isnan(Lanes(_mm512_reduce_ps(_mm512_set1_ps(NAN), 0x09)).f[0]));
  EXPECT_EQ(Lanes(_mm512_reduce_ps(_mm512_set1_ps(-kInfinity), 0x09)).f[0], 0.0f);
}

struct Shapes : TileConfig {
  Shapes& Shape(int tile, int tile_rows, int bytes) {
    rows[tile] = static_cast<uint8_t>(tile_rows);
    row_bytes[tile] = static_cast<uint16_t>(bytes);
    return *this;
  }
};

TEST(TileLayout, TransposesAndPairs) {
  __m512i rows[16];
  for (int i = 0; i < 16; ++i) {
    uint32_t row[16];
    for (int j = 0; j < 16; ++j) row[j] = static_cast<uint32_t>(100 * i + j);
    rows[i] = _mm512_loadu_si512(row);
  }
  Transpose(rows);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) EXPECT_EQ(Lanes(rows[i]).bits(j), static_cast<uint32_t>(100 * j + i));
  }
  Lanes even, odd;
  for (int i = 0; i < 16; ++i) even.f[i] = static_cast<float>(i), odd.f[i] = static_cast<float>(-i);
  const Lanes pairs(Pairs(even.v(), odd.v()));
  const Lanes beside(Rounded(even.v(), odd.v()));
  for (int i = 0; i < 16; ++i) {
    EXPECT_EQ(Element(pairs.bits(i), 0), even.f[i]);
    EXPECT_EQ(Element(pairs.bits(i), 1), odd.f[i]);
    for (int e = 0; e < 2; ++e) EXPECT_EQ(Element(beside.bits(i), e), (i < 8 ? 1 : -1) * (2 * (i % 8) + e));
  }
}

int SignedByte(uint32_t bits, int i) { return static_cast<int8_t>(bits >> 8 * i); }
int UnsignedByte(uint32_t bits, int i) { return static_cast<uint8_t>(bits >> 8 * i); }

TEST(EmulatedVnni, SumsUnsignedBySignedBytes) {
  std::mt19937 rng(5);
  for (int round = 0; round < 1000; ++round) {
    uint32_t sum[16], a[16], b[16], wide[16], narrow[8];
    for (int i = 0; i < 16; ++i) sum[i] = rng() >> 2, a[i] = rng(), b[i] = rng();
    _mm512_storeu_si512(wide,
                        _mm512_dpbusd_epi32(_mm512_loadu_si512(sum), _mm512_loadu_si512(a), _mm512_loadu_si512(b)));
    const auto half = [](const uint32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); };
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(narrow), _mm256_dpbusd_avx_epi32(half(sum), half(a), half(b)));
    uint8_t low[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm512_cvtepi32_epi8(_mm512_loadu_si512(a)));
    for (int i = 0; i < 16; ++i) {
      int expected = static_cast<int>(sum[i]);
      for (int k = 0; k < 4; ++k) expected += UnsignedByte(a[i], k) * SignedByte(b[i], k);
      EXPECT_EQ(static_cast<int>(wide[i]), expected);
      if (i < 8) {
        EXPECT_EQ(narrow[i], wide[i]);
      }
      EXPECT_EQ(low[i], a[i] & 0xff);
    }
  }
}

TEST(EmulatedAmx, ProductOfIntegersIsExact) {
  std::mt19937 rng(6);
  for (int round = 0; round < 100; ++round) {
    const int rows = 1 + static_cast<int>(rng() % 16), units = 1 + static_cast<int>(rng() % 16),
              columns = 1 + static_cast<int>(rng() % 16);
    uint32_t a[16][16], b[16][16], c[16][16], got[16][16] = {};
    for (int i = 0; i < 256; ++i) a[i / 16][i % 16] = rng(), b[i / 16][i % 16] = rng(), c[i / 16][i % 16] = rng() >> 2;
    LoadTileConfig(Shapes{}.Shape(0, rows, 4 * columns).Shape(4, rows, 4 * units).Shape(6, units, 4 * columns));
    LoadTile<0>(c, 64);
    LoadTile<4>(a, 64);
    LoadTile<6>(b, 64);
    MultiplyInt8Tiles<0, 4, 6>();
    StoreTile<0>(got, 64);
    ReleaseTiles();
    for (int m = 0; m < rows; ++m) {
      for (int n = 0; n < columns; ++n) {
        int expected = static_cast<int>(c[m][n]);
        for (int k = 0; k < units; ++k) {
          for (int i = 0; i < 4; ++i) expected += SignedByte(a[m][k], i) * SignedByte(b[k][n], i);
        }
        EXPECT_EQ(static_cast<int>(got[m][n]), expected);
      }
    }
  }
}

TEST(EmulatedAmx, ProductSumsThePairsApart) {
  std::mt19937 rng(4);
  for (int round = 0; round < 300; ++round) {
    const int rows = 1 + static_cast<int>(rng() % 16), units = 1 + static_cast<int>(rng() % 16),
              columns = 1 + static_cast<int>(rng() % 16);
    Lanes a[16], b[16], c[16], got[16];
    for (int i = 0; i < 16; ++i) a[i] = AnyLanes(rng), b[i] = AnyLanes(rng), c[i] = AnyLanes(rng), got[i] = Lanes(7.0f);
    for (const bool flush : {false, true}) {
      const Mode mode(flush);
      LoadTileConfig(Shapes{}.Shape(0, rows, 4 * columns).Shape(4, rows, 4 * units).Shape(6, units, 4 * columns));
      LoadTile<0>(c, 64);
      LoadTile<4>(a, 64);
      LoadTile<6>(b, 64);
      MultiplyTiles<0, 4, 6>();
      StoreTile<0>(got, 64);
      ReleaseTiles();
      const Mode exact(false);
      for (int m = 0; m < 16; ++m) {
        for (int n = 0; n < 16; ++n) {
          float sums[2] = {};
          for (int k = 0; k < units; ++k) {
            for (int e = 0; e < 2; ++e) sums[e] = Fma(Element(a[m].bits(k), e), Element(b[k].bits(n), e), sums[e]);
          }
          const float product = Flush(Flush(c[m].f[n]) + Flush(sums[0] + sums[1]));
          ExpectSame(got[m].f[n], m < rows && n < columns ? product : 7.0f);
        }
      }
    }
    ASSERT_FALSE(HasFailure()) << "round " << round;
  }
}

TEST(EmulatedAmxDeathTest, MistakesEndTheProcess) {
  float memory[16][16] = {};
  EXPECT_DEATH(ZeroTile<0>(), "tilezero: the tiles of this thread are not configured");
  const auto configured = Shapes{}.Shape(0, 3, 64).Shape(4, 3, 64).Shape(5, 2, 64).Shape(6, 16, 64).Shape(7, 8, 64);
  LoadTileConfig(configured);
  EXPECT_DEATH(ZeroTile<1>(), "tilezero: tile 1 has no rows in the configuration");
  EXPECT_DEATH(LoadTile<8>(memory, 64), "tileloadd: there is no tile 8");
  EXPECT_DEATH(StoreTile<0>(memory, 32), "tilestored: rows of 64 bytes at a stride of 32 overlap");
  EXPECT_DEATH((MultiplyTiles<0, 5, 6>()), "\\[3, 64 bytes\\] \\+= \\[2, 64 bytes\\] \\* \\[16, 64 bytes\\]");
  EXPECT_DEATH((MultiplyTiles<0, 4, 7>()), "\\* \\[8, 64 bytes\\]");
  EXPECT_DEATH((MultiplyTiles<0, 0, 6>()), "tiles 0, 0 and 6 are not three");
  // Another thread has tiles of its own.
  EXPECT_DEATH(std::thread([] { ZeroTile<0>(); }).join(), "not configured");
  // What no instruction wrote since the configuration is no number.
  StoreTile<0>(memory, 64);
  EXPECT_TRUE(std::isnan(memory[2][15]));
  ReleaseTiles();
  EXPECT_DEATH(StoreTile<0>(memory, 64), "not configured");

  TileConfig wrong;
  wrong.palette = 2;
  EXPECT_DEATH(LoadTileConfig(wrong), "palette is 2");
  wrong.palette = 1;
  wrong.row_bytes[8] = 256;
  EXPECT_DEATH(LoadTileConfig(wrong), "byte 33 is 1 and has to be 0");
  EXPECT_DEATH(LoadTileConfig(Shapes{}.Shape(2, 17, 64)), "tile 2 has 17 rows of 64 bytes; at most 16 of 64");
  EXPECT_DEATH(LoadTileConfig(Shapes{}.Shape(2, 3, 0)), "tile 2 has 3 rows of 0 bytes: both or none");
  EXPECT_DEATH(LoadTileConfig(Shapes{}.Shape(2, 3, 62)), "whole units");
}

}  // namespace
}  // namespace elserve::cpu
