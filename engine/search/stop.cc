#include "engine/search/stop.h"

#include <algorithm>
#include <string_view>

namespace elserve {

bool CompletesStopString(const StopStrings& stop, std::span<const int32_t> tokens, std::string* window) {
  const std::string_view last = (*stop.texts)[tokens.back()];
  if (last.empty()) return false;
  size_t most = 0;
  for (const std::string& string : stop.strings) most = std::max(most, string.size() - 1);
  // The window: the last `most` bytes before the token, or as many as there are, then the token.
  window->assign(last);
  size_t before = 0;
  const size_t first = tokens.size() - std::min(tokens.size(), stop.most_tokens);
  for (size_t i = tokens.size() - 1; i-- > first && before < most;) {
    const std::string_view text = (*stop.texts)[tokens[i]];
    const std::string_view end = text.substr(text.size() - std::min(text.size(), most - before));
    window->insert(0, end);
    before += end.size();
  }
  return std::any_of(stop.strings.begin(), stop.strings.end(), [&](const std::string& string) {
    const size_t overlap = std::min(before, string.size() - 1);
    return window->find(string, before - overlap) != std::string::npos;
  });
}

}  // namespace elserve
