// Checkpoints that tests write to disk: good ones first, then spoilt in one place.
#ifndef ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_CHECKPOINT_H_
#define ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_CHECKPOINT_H_

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/test_directory.h"

namespace elserve {

struct WrittenTensor {
  std::string name;
  std::vector<int64_t> shape;
  std::string dtype = "F32";

  int64_t size() const {
    int64_t n = 1;
    for (const int64_t extent : shape) n *= extent;
    return n;
  }
  int64_t bytes() const { return size() * (dtype == "I64" ? 8 : dtype == "F32" ? 4 : 2); }
};

// Length, header, data: whatever the header says.
inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  std::string out(8, '\0');
  for (size_t i = 0; i < 8; ++i) out[i] = static_cast<char>((uint64_t{header.size()} >> (8 * i)) & 255);
  return out + std::string(header) + std::string(data);
}

inline nlohmann::json HeaderOf(const std::vector<WrittenTensor>& tensors) {
  nlohmann::json header = {{"__metadata__", {{"format", "pt"}}}};
  int64_t begin = 0;
  for (const WrittenTensor& tensor : tensors) {
    const int64_t end = begin + tensor.bytes();
    header[tensor.name] = {{"dtype", tensor.dtype}, {"shape", tensor.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  return header;
}

// Float32 tensor i holds i, i + 1/8, ...; other types hold zeros.
inline std::string DataOf(const std::vector<WrittenTensor>& tensors) {
  std::string data;
  for (size_t i = 0; i < tensors.size(); ++i) {
    std::string bytes(tensors[i].bytes(), '\0');
    for (int64_t j = 0; tensors[i].dtype == "F32" && j < tensors[i].size(); ++j) {
      const float value = static_cast<float>(i) + static_cast<float>(j) / 8;
      std::memcpy(bytes.data() + 4 * j, &value, 4);
    }
    data += bytes;
  }
  return data;
}

// As the safetensors library writes it: the header is padded with spaces to a multiple of 8.
inline std::string SafetensorsFileBytes(const std::vector<WrittenTensor>& tensors) {
  std::string header = HeaderOf(tensors).dump();
  header.resize((header.size() + 7) / 8 * 8, ' ');
  return SafetensorsBytes(header, DataOf(tensors));
}

// A BART of odd shapes with two encoder layers and one decoder layer.
inline nlohmann::json TinyBartConfig() {
  return {{"model_type", "bart"},
          {"vocab_size", 11},
          {"d_model", 6},
          {"encoder_layers", 2},
          {"encoder_attention_heads", 3},
          {"encoder_ffn_dim", 5},
          {"decoder_layers", 1},
          {"decoder_attention_heads", 2},
          {"decoder_ffn_dim", 7},
          {"max_position_embeddings", 9},
          {"activation_function", "gelu"},
          {"scale_embedding", true}};
}

inline void AddModule(std::vector<WrittenTensor>* tensors, const std::string& name, std::vector<int64_t> shape) {
  tensors->push_back({name + ".bias", {shape[0]}});
  tensors->push_back({name + ".weight", std::move(shape)});
}

// What save_pretrained writes for TinyBartConfig with tied embeddings.
inline std::vector<WrittenTensor> TinyBartTensors() {
  std::vector<WrittenTensor> tensors = {{"final_logits_bias", {1, 11}},
                                        {"model.shared.weight", {11, 6}},
                                        {"model.encoder.embed_positions.weight", {11, 6}},
                                        {"model.decoder.embed_positions.weight", {11, 6}}};
  for (const std::string side : {"model.encoder", "model.decoder"}) {
    const bool decoder = side == "model.decoder";
    AddModule(&tensors, side + ".layernorm_embedding", {6});
    for (int i = 0; i < (decoder ? 1 : 2); ++i) {
      const std::string layer = side + ".layers." + std::to_string(i) + ".";
      for (const std::string attention : {"self_attn", "encoder_attn"}) {
        if (attention == "encoder_attn" && !decoder) continue;
        for (const char* part : {".q_proj", ".k_proj", ".v_proj", ".out_proj"}) {
          AddModule(&tensors, layer + attention + part, {6, 6});
        }
        AddModule(&tensors, layer + attention + "_layer_norm", {6});
      }
      AddModule(&tensors, layer + "fc1", {decoder ? 7 : 5, 6});
      AddModule(&tensors, layer + "fc2", {6, decoder ? 7 : 5});
      AddModule(&tensors, layer + "final_layer_norm", {6});
    }
  }
  return tensors;
}

}  // namespace elserve

#endif  // ELSERVE_TESTS_ENGINE_MODEL_CHECKPOINT_WRITTEN_CHECKPOINT_H_
