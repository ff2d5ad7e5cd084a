// What a model computes in.
#ifndef ELSERVE_ENGINE_PRECISION_H_
#define ELSERVE_ENGINE_PRECISION_H_

namespace elserve {

// kInt8: weights as integers, and all else as of kBFloat16. Lossy.
enum class Precision { kAuto, kFloat32, kBFloat16, kInt8 };

inline const char* ToString(Precision precision) {
  switch (precision) {
    case Precision::kAuto:
      return "auto";
    case Precision::kFloat32:
      return "float32";
    case Precision::kBFloat16:
      return "bfloat16";
    case Precision::kInt8:
      return "int8";
  }
  return "";
}

// Of kInt8: weights that stay bfloat16. A layer is one of the encoder's and one of the decoder's.
struct Int8Keep {
  bool head = false;  // the product with the vocabulary
  bool first_layer = false, last_layer = false;
  bool operator==(const Int8Keep&) const = default;
};

}  // namespace elserve

#endif  // ELSERVE_ENGINE_PRECISION_H_
