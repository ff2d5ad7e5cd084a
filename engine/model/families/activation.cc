#include "engine/model/families/activation.h"

#include <array>
#include <string>

#include "absl/strings/str_cat.h"

namespace elserve {
namespace {

struct Row {
  std::string_view name;
  Activation activation;
};

// As transformers/activations.py computes them.
constexpr std::array kActivations = {
    // x * 0.5 * (1 + erf(x / sqrt(2)))
    Row{"gelu", Activation::kGelu},
    Row{"gelu_python", Activation::kGelu},
    // 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))). They differ in the order of operations alone;
    // gelu_fast
    // has sqrt(2 / pi) to ten digits, which is the same float32.
    Row{"gelu_new", Activation::kGeluTanh},
    Row{"gelu_fast", Activation::kGeluTanh},
    Row{"gelu_accurate", Activation::kGeluTanh},
    Row{"gelu_pytorch_tanh", Activation::kGeluTanh},
    Row{"gelu_python_tanh", Activation::kGeluTanh},
    // x * sigmoid(1.702 * x)
    Row{"quick_gelu", Activation::kGeluQuick},
    // x * sigmoid(x)
    Row{"silu", Activation::kSilu},
    Row{"swish", Activation::kSilu},
    Row{"relu", Activation::kRelu},
    Row{"tanh", Activation::kTanh},
    Row{"linear", Activation::kNone},
};

}  // namespace

std::optional<Activation> FindActivation(std::string_view name) {
  for (const Row& row : kActivations) {
    if (row.name == name) return row.activation;
  }
  return std::nullopt;
}

std::string ActivationNames() {
  std::string names;
  for (const Row& row : kActivations) absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(row.name));
  return names;
}

absl::StatusOr<Activation> ReadActivation(const ConfigFile& config, std::string_view key, std::string_view absent) {
  absl::StatusOr<std::string> name = config.String(key, absent);
  if (!name.ok()) return name.status();
  if (const std::optional<Activation> activation = FindActivation(*name)) return *activation;
  return config.Error(key, absl::StrCat("one of ", ActivationNames()));
}

}  // namespace elserve
