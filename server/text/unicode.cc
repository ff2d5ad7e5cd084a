#include "server/text/unicode.h"

#include <unicode/uchar.h>
#include <unicode/unorm2.h>

#include <algorithm>
#include <array>
#include <optional>
#include <span>

#include "server/text/utf8.h"

namespace elserve {
namespace {

constexpr uint8_t kFormsVersion = 9;  // of Unicode, whose normalization forms and marks count

const UNormalizer2* Instance(bool compatible) {
  UErrorCode error = U_ZERO_ERROR;
  return compatible ? unorm2_getNFKCInstance(&error) : unorm2_getNFCInstance(&error);
}

bool IsOlder(char32_t character) {
  UVersionInfo age;
  u_charAge(static_cast<UChar32>(character), age);
  return age[0] <= kFormsVersion;
}

uint8_t CombiningClass(char32_t character) {
  // No mark below U+0300 combines.
  if (character < 0x300 || !IsOlder(character)) return 0;
  return unorm2_getCombiningClass(Instance(false), static_cast<UChar32>(character));
}

std::optional<char32_t> Compose(char32_t first, char32_t second) {
  if (first < 0x3C || second < 0x300) return std::nullopt;
  const UChar32 composed =
      unorm2_composePair(Instance(false), static_cast<UChar32>(first), static_cast<UChar32>(second));
  if (composed < 0 || !IsOlder(static_cast<char32_t>(composed))) return std::nullopt;
  return static_cast<char32_t>(composed);
}

struct Decomposed {
  CharacterChange item;
  uint8_t combining_class;
};

// No character of Unicode becomes more than 18 (U+FDFA).
constexpr int kMaxDecomposition = 32;

void AppendDecomposed(char32_t character, bool compatible, std::vector<Decomposed>& out) {
  UChar units[kMaxDecomposition];
  int32_t length = -1;
  if (character >= 0xA0 && IsOlder(character)) {
    UErrorCode error = U_ZERO_ERROR;
    length = unorm2_getDecomposition(Instance(compatible), static_cast<UChar32>(character), units, kMaxDecomposition,
                                     &error);
    if (U_FAILURE(error)) length = -1;
  }
  if (length < 0) {
    out.push_back({{character, 0}, CombiningClass(character)});
    return;
  }
  for (int32_t at = 0; at < length;) {
    const int32_t change = at == 0 ? 0 : 1;
    UChar32 part;
    U16_NEXT(units, at, length, part);
    out.push_back({{static_cast<char32_t>(part), change}, CombiningClass(static_cast<char32_t>(part))});
  }
}

std::vector<Decomposed> Decompose(std::string_view text, bool compatible) {
  std::vector<Decomposed> items;
  items.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const Utf8Character character = ReadUtf8(text, at);
    AppendDecomposed(character.code_point, compatible, items);
    at += character.length;
  }
  // Marks are ordered by their class; what is no mark stays where it is.
  for (auto begin = items.begin(); begin != items.end();) {
    const auto is_starter = [](const Decomposed& item) { return item.combining_class == 0; };
    const auto end = std::find_if(begin + 1, items.end(), is_starter);
    std::stable_sort(begin, end,
                     [](const Decomposed& a, const Decomposed& b) { return a.combining_class < b.combining_class; });
    begin = end;
  }
  return items;
}

// Recompositions::next of the crate: how the changes of what is joined add up is its own.
std::vector<CharacterChange> Recompose(const std::vector<Decomposed>& items) {
  std::vector<CharacterChange> out;
  std::optional<CharacterChange> starter;  // what following marks join
  std::vector<CharacterChange> marks;      // that did not join it
  uint8_t last_class = 0;                  // of the last of them
  const auto flush = [&] {
    if (starter) out.push_back(*starter);
    starter.reset();
    out.insert(out.end(), marks.begin(), marks.end());
    marks.clear();
  };
  for (const Decomposed& next : items) {
    if (!starter) {
      if (next.combining_class == 0) {
        starter = next.item;
      } else {
        out.push_back(next.item);
      }
      continue;
    }
    const bool blocked = !marks.empty() && last_class >= next.combining_class;
    const std::optional<char32_t> composed = blocked ? std::nullopt : Compose(starter->character, next.item.character);
    if (composed) {
      starter = {*composed, starter->change + next.item.change - 1};
    } else if (next.combining_class == 0) {
      flush();
      starter = next.item;
    } else {
      marks.push_back(next.item);
      last_class = next.combining_class;
    }
  }
  flush();
  return out;
}

// Most texts of the world have some of these next to each other.
struct Range {
  char32_t first;
  char32_t last;
};
constexpr std::array<Range, 13> kSeparable = {{
    {0x21, 0x7E},      // ASCII but blanks and controls
    {0x3B1, 0x3C9},    // Greek
    {0x410, 0x44F},    // Cyrillic
    {0x561, 0x586},    // Armenian
    {0x5D0, 0x5EA},    // Hebrew
    {0x627, 0x63A},    // Arabic
    {0x641, 0x64A},    // Arabic
    {0x915, 0x939},    // Devanagari
    {0xE01, 0xE2E},    // Thai
    {0x3041, 0x3096},  // Hiragana
    {0x30A1, 0x30FA},  // Katakana
    {0x4E00, 0x9FD5},  // ideographs
    {0xAC00, 0xD7A3},  // Hangul syllables
}};

// Capital letters that Unicode got in versions 16 and 17, or whose small letters it got then.
struct NewCapitals {
  char32_t first;
  char32_t last;
  char32_t lower;  // of the first; the others follow
};
constexpr std::array<NewCapitals, 10> kNewCapitals = {{
    {0x1C89, 0x1C89, 0x1C8A},
    {0xA7CB, 0xA7CB, 0x264},
    {0xA7CC, 0xA7CC, 0xA7CD},
    {0xA7CE, 0xA7CE, 0xA7CF},
    {0xA7D2, 0xA7D2, 0xA7D3},
    {0xA7D4, 0xA7D4, 0xA7D5},
    {0xA7DA, 0xA7DA, 0xA7DB},
    {0xA7DC, 0xA7DC, 0x19B},
    {0x10D50, 0x10D65, 0x10D70},
    {0x16EA0, 0x16EB8, 0x16EBB},
}};

// Where a cluster stands that goes on: what the rules of UAX 29 look back at.
struct Cluster {
  int last;                 // the class of its last character
  bool odd_regions;         // it ends with an odd number of regional indicators
  bool pictograph;          // it ends with a pictograph and extending characters
  bool joining_pictograph;  // and a zero-width joiner after those
};

// Marks that Unicode got in versions 16 and 17.
constexpr std::array<Range, 20> kNewMarks = {{
    {0x897, 0x897},     {0x1ACF, 0x1ADD},   {0x1AE0, 0x1AEB},   {0x10D69, 0x10D6D}, {0x10EFA, 0x10EFC},
    {0x113B8, 0x113C0}, {0x113C2, 0x113C2}, {0x113C5, 0x113C5}, {0x113C7, 0x113CA}, {0x113CC, 0x113D0},
    {0x113D2, 0x113D2}, {0x113E1, 0x113E2}, {0x11B60, 0x11B67}, {0x11F5A, 0x11F5A}, {0x1611E, 0x1612F},
    {0x1E5EE, 0x1E5EF}, {0x1E6E3, 0x1E6E3}, {0x1E6E6, 0x1E6E6}, {0x1E6EE, 0x1E6EF}, {0x1E6F5, 0x1E6F5},
}};

bool IsIn(char32_t character, std::span<const Range> ranges) {
  return std::any_of(ranges.begin(), ranges.end(),
                     [&](const Range& range) { return character >= range.first && character <= range.last; });
}

int ClusterClass(char32_t character) {
  if (IsIn(character, kNewMarks)) return U_GCB_EXTEND;
  if (character == 0x113D1) return U_GCB_PREPEND;  // new, too
  if (character == 0x11A3A) return U_GCB_OTHER;    // no longer put before others
  return u_getIntPropertyValue(static_cast<UChar32>(character), UCHAR_GRAPHEME_CLUSTER_BREAK);
}

bool IsPictograph(char32_t character) {
  return u_hasBinaryProperty(static_cast<UChar32>(character), UCHAR_EXTENDED_PICTOGRAPHIC);
}

bool IsControl(int cluster_class) {
  return cluster_class == U_GCB_CONTROL || cluster_class == U_GCB_CR || cluster_class == U_GCB_LF;
}

// The rules GB3 to GB13 but for GB9c: clusters that it makes longer have 6 bytes or more, which is all that
// is asked of them.
bool GoesOn(const Cluster& cluster, int next, bool next_is_pictograph) {
  if (cluster.last == U_GCB_CR && next == U_GCB_LF) return true;
  if (IsControl(cluster.last) || IsControl(next)) return false;
  if (cluster.last == U_GCB_L && (next == U_GCB_L || next == U_GCB_V || next == U_GCB_LV || next == U_GCB_LVT)) {
    return true;
  }
  if ((cluster.last == U_GCB_LV || cluster.last == U_GCB_V) && (next == U_GCB_V || next == U_GCB_T)) return true;
  if ((cluster.last == U_GCB_LVT || cluster.last == U_GCB_T) && next == U_GCB_T) return true;
  if (next == U_GCB_EXTEND || next == U_GCB_ZWJ || next == U_GCB_SPACING_MARK) return true;
  if (cluster.last == U_GCB_PREPEND) return true;
  if (cluster.joining_pictograph && next_is_pictograph) return true;
  return cluster.odd_regions && next == U_GCB_REGIONAL_INDICATOR;
}

}  // namespace

std::vector<CharacterChange> Normalized(std::string_view text, NormalForm form) {
  const bool compatible = form == NormalForm::kNfkc || form == NormalForm::kNfkd;
  const std::vector<Decomposed> items = Decompose(text, compatible);
  if (form == NormalForm::kNfc || form == NormalForm::kNfkc) return Recompose(items);
  std::vector<CharacterChange> out;
  out.reserve(items.size());
  for (const Decomposed& item : items) out.push_back(item.item);
  return out;
}

bool IsSeparable(char32_t character) { return IsIn(character, kSeparable); }

bool IsMark(char32_t character) {
  // Marks in Unicode 9 and none today, and the reverse.
  if (character == 0x1CF2 || character == 0x1CF3) return true;
  if (character == 0x111C9) return false;
  return character >= 0x300 && (U_MASK(u_charType(static_cast<UChar32>(character))) & U_GC_M_MASK) != 0 &&
         IsOlder(character);
}

void AppendLowercase(char32_t character, std::vector<char32_t>& out) {
  if (character == 0x130) {
    out.insert(out.end(), {U'i', char32_t{0x307}});
    return;
  }
  for (const NewCapitals& capitals : kNewCapitals) {
    if (character >= capitals.first && character <= capitals.last) {
      out.push_back(character - capitals.first + capitals.lower);
      return;
    }
  }
  out.push_back(static_cast<char32_t>(u_tolower(static_cast<UChar32>(character))));
}

size_t GraphemeEnd(std::string_view text, size_t begin) {
  Utf8Character character = ReadUtf8(text, begin);
  size_t end = begin + character.length;
  int next = ClusterClass(character.code_point);
  bool is_pictograph = IsPictograph(character.code_point);
  Cluster cluster = {next, next == U_GCB_REGIONAL_INDICATOR, is_pictograph, false};
  while (end < text.size()) {
    character = ReadUtf8(text, end);
    next = ClusterClass(character.code_point);
    is_pictograph = IsPictograph(character.code_point);
    if (!GoesOn(cluster, next, is_pictograph)) break;
    end += character.length;
    cluster = {next, next == U_GCB_REGIONAL_INDICATOR && !cluster.odd_regions,
               is_pictograph || (cluster.pictograph && next == U_GCB_EXTEND), cluster.pictograph && next == U_GCB_ZWJ};
  }
  return end;
}

}  // namespace elserve
