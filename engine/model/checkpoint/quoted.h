// Text from untrusted files, made fit for an error message.
#ifndef ELSERVE_ENGINE_MODEL_CHECKPOINT_QUOTED_H_
#define ELSERVE_ENGINE_MODEL_CHECKPOINT_QUOTED_H_

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace elserve {

// `text` with unprintable bytes as \xNN, cut after 200 bytes.
std::string Printable(std::string_view text);
// The same in double quotes: a key, a name.
std::string Quoted(std::string_view text);
// "[8192, 256]"
std::string ShapeText(std::span<const int64_t> shape);

}  // namespace elserve

#endif  // ELSERVE_ENGINE_MODEL_CHECKPOINT_QUOTED_H_
