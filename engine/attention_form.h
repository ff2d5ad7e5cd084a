// What attention of the decoder reads: see "EL-attention" in ARCHITECTURE.md.
#ifndef ELSERVE_ENGINE_ATTENTION_FORM_H_
#define ELSERVE_ENGINE_ATTENTION_FORM_H_

#include <optional>
#include <string>

namespace elserve {

// kEl: hidden states, d numbers a token for all heads. kKv: a key and a value of each head.
enum class AttentionForm { kEl, kKv };

// The two attentions of a decoder layer may differ in form.
struct AttentionForms {
  std::optional<AttentionForm> cross = AttentionForm::kEl;  // over the document; none in a decoder-only model
  AttentionForm self = AttentionForm::kEl;                  // over the row's own history
  bool operator==(const AttentionForms&) const = default;
};

inline constexpr AttentionForms kAllEl = {AttentionForm::kEl, AttentionForm::kEl};
inline constexpr AttentionForms kAllKv = {AttentionForm::kKv, AttentionForm::kKv};

// "el", "kv", or where they differ "el cross, kv self"; without cross-attention the form of self-attention.
inline std::string ToString(const AttentionForms& forms) {
  const auto name = [](AttentionForm form) { return std::string(form == AttentionForm::kEl ? "el" : "kv"); };
  if (forms.cross.value_or(forms.self) == forms.self) return name(forms.self);
  return name(*forms.cross) + " cross, " + name(forms.self) + " self";
}

}  // namespace elserve

#endif  // ELSERVE_ENGINE_ATTENTION_FORM_H_
