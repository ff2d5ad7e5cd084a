// The steps of a Normalizer that go through a text character by character.
#ifndef ELSERVE_SERVER_TEXT_CHARACTER_STEPS_H_
#define ELSERVE_SERVER_TEXT_CHARACTER_STEPS_H_

#include <memory>

#include "server/text/charsmap.h"
#include "server/text/normalizer_step.h"
#include "server/text/unicode.h"

namespace elserve {

std::unique_ptr<const Normalizer::Step> MakePrecompiledStep(Charsmap charsmap);
std::unique_ptr<const Normalizer::Step> MakeFormStep(NormalForm form);
std::unique_ptr<const Normalizer::Step> MakeLowercaseStep();
std::unique_ptr<const Normalizer::Step> MakeNmtStep();
std::unique_ptr<const Normalizer::Step> MakeStripAccentsStep();

}  // namespace elserve

#endif  // ELSERVE_SERVER_TEXT_CHARACTER_STEPS_H_
