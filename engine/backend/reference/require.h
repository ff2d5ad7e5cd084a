// The checks of the reference backend: what backend.h demands of its callers.
#ifndef ELSERVE_ENGINE_BACKEND_REFERENCE_REQUIRE_H_
#define ELSERVE_ENGINE_BACKEND_REFERENCE_REQUIRE_H_

#include <cstdio>
#include <cstdlib>

namespace elserve::reference {

// Ends the process, saying which rule was broken, unless `holds`.
inline void Require(bool holds, const char* rule) {
  if (holds) return;
  std::fprintf(stderr, "reference backend: broken rule of backend.h: %s\n", rule);
  std::abort();
}

}  // namespace elserve::reference

#endif  // ELSERVE_ENGINE_BACKEND_REFERENCE_REQUIRE_H_
