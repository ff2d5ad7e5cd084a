#include "engine/model/checkpoint/bounded_json.h"

#include <cstddef>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/model/checkpoint/quoted.h"

namespace elserve {
namespace {

using Json = nlohmann::json;

// Builds the value from the parser's events; an event that returns false ends the parsing.
class BoundedBuilder : public nlohmann::json_sax<Json> {
 public:
  bool null() override { return Add(nullptr); }
  bool boolean(bool value) override { return Add(value); }
  bool number_integer(number_integer_t value) override { return Add(value); }
  bool number_unsigned(number_unsigned_t value) override { return Add(value); }
  bool number_float(number_float_t value, const string_t& /*text*/) override { return Add(value); }
  bool string(string_t& value) override { return Add(std::move(value)); }
  bool binary(binary_t& /*value*/) override { return Fail("binary values are not allowed"); }

  bool start_object(std::size_t /*size*/) override { return Open(Json::object()); }
  bool start_array(std::size_t /*size*/) override { return Open(Json::array()); }
  bool end_object() override { return Close(); }
  bool end_array() override { return Close(); }

  bool key(string_t& name) override {
    auto [place, added] = open_.back()->get_ref<Json::object_t&>().try_emplace(std::move(name));
    // try_emplace leaves its argument alone where the key was there.
    if (!added) return Fail(absl::StrCat("key ", Quoted(place->first), " stands twice in one object; expected once"));
    slot_ = &place->second;
    return true;
  }

  bool parse_error(std::size_t byte, const std::string& /*last_token*/, const Json::exception& error) override {
    // The parser's own text starts with an id in brackets that says nothing to a user.
    std::string_view what = error.what();
    if (const size_t end = what.find("] "); what.starts_with('[') && end != what.npos) what.remove_prefix(end + 2);
    return Fail(absl::StrCat("not valid JSON at byte ", byte, ": ", Printable(what)));
  }

  const std::string& error() const { return error_; }
  Json& root() { return root_; }

 private:
  bool Fail(std::string error) {
    if (error_.empty()) error_ = std::move(error);
    return false;
  }

  // Where the next value goes: the key just read, the end of the open array, or the top.
  Json* Place(Json value) {
    if (open_.empty()) return &(root_ = std::move(value));
    if (!open_.back()->is_array()) return &(*slot_ = std::move(value));
    return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }

  bool Add(Json value) {
    if (++values_ > kMaxJsonValues) return Fail(absl::StrCat("has more than ", kMaxJsonValues, " JSON values"));
    Place(std::move(value));
    return true;
  }

  bool Open(Json value) {
    if (static_cast<int>(open_.size()) >= kMaxJsonDepth) {
      return Fail(absl::StrCat("JSON is nested deeper than ", kMaxJsonDepth, " levels"));
    }
    if (++values_ > kMaxJsonValues) return Fail(absl::StrCat("has more than ", kMaxJsonValues, " JSON values"));
    // A container's address holds while it is open: only its innermost open child grows.
    open_.push_back(Place(std::move(value)));
    return true;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  Json root_;
  std::vector<Json*> open_;  // the containers around the next value, outermost first
  Json* slot_ = nullptr;     // in an object: the last key's value
  int64_t values_ = 0;
  std::string error_;
};

}  // namespace

absl::StatusOr<nlohmann::json> ParseJsonObject(const std::string& path, std::string_view text) {
  BoundedBuilder builder;
  const bool parsed = Json::sax_parse(text.begin(), text.end(), &builder);
  if (!parsed) return absl::InvalidArgumentError(absl::StrCat(path, ": ", builder.error()));
  if (!builder.root().is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": the top is ", ValueText(builder.root()), "; expected a JSON object"));
  }
  return std::move(builder.root());
}

std::string ValueText(const nlohmann::json& value) {
  return Printable(value.dump(-1, ' ', false, Json::error_handler_t::replace));
}

}  // namespace elserve
