#include "server/commands/client/models.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/commands/client/printing.h"
#include "server/commands/client/request_options.h"

namespace elserve {
namespace {

// Empty where there are none.
std::string Languages(const v1::Model::Languages& languages) {
  std::string out;
  const auto add = [&out](const char* title, const auto& codes, const std::string& preset) {
    if (codes.empty()) return;
    out += title + absl::StrJoin(codes, ", ") + (preset.empty() ? "" : "; default " + preset) + "\n";
  };
  add("  source      ", languages.source(), languages.default_source());
  add("  target      ", languages.target(), languages.default_target());
  return out;
}

std::string AnswerCache(int64_t bytes) {
  return bytes == 0 ? std::string() : absl::StrCat(", answer cache of ", bytes, " bytes");
}

std::string Approximation(const v1::Model& model) {
  return model.has_approximation() ? absl::StrCat("  lossy       ", ToJson(model.approximation()), "\n") : "";
}

std::string Favor(int features) {
  return features == 0 ? std::string()
                       : absl::StrCat("  encoder     FAVOR+ attention, ", features, " random features\n");
}

std::string Precision(const v1::Model& model) {
  return absl::StrCat(model.precision(), model.int8_keep().empty() ? "" : " but for ",
                      absl::StrJoin(model.int8_keep(), ", "),
                      model.memory_precision() == "int8" ? ", states kept in int8" : "");
}

void Print(const v1::Model& model) {
  const v1::Model::Limits& limits = model.limits();
  // What is said of sources has no meaning without an encoder.
  const auto sources = [&model](int64_t tokens) {
    return model.decoder_only() ? std::string() : absl::StrCat(tokens, " source tokens, ");
  };
  std::cout << model.name() << "\n"
            << "  family      " << model.family() << ", " << model.parameter_count() << " parameters, d_model "
            << model.d_model() << ", "
            << (model.decoder_only() ? std::string() : absl::StrCat(model.encoder_layers(), " + "))
            << model.decoder_layers() << " layers" << (model.decoder_only() ? ", decoder-only" : "") << "\n"
            << "  device      " << model.device() << ": " << model.device_name() << ", " << Precision(model) << " ("
            << model.device_reason() << ")\n"
            << "  attention   " << model.attention() << " (" << model.attention_reason() << ")\n"
            << Favor(model.favor_features()) << Approximation(model) << "  limits      "
            << sources(limits.max_source_tokens()) << limits.max_decoder_tokens() << " decoder tokens ("
            << limits.max_tokens_reason() << "), " << limits.max_num_beams() << " beams\n"
            << "  memory      " << sources(limits.encoder_memory_tokens()) << limits.decoder_memory_tokens()
            << " decoder positions, " << limits.max_rows() << " rows in flight"
            << (limits.encoder_cache() ? ", encoder cache" : "") << AnswerCache(limits.answer_cache_bytes()) << "\n"
            << Languages(model.languages()) << "  generate    " << ToJson(model.default_parameters()) << "\n";
  if (model.tasks().has_summarize()) {
    std::cout << "  summarize   " << ToJson(model.tasks().summarize()) << "\n";
  }
  if (model.tasks().has_questions()) {
    std::cout << "  questions   " << ToJson(model.tasks().questions()) << "\n";
  }
  std::cout << "  chunk       " << ToJson(model.chunk()) << "\n";
  if (model.has_salience()) std::cout << "  salience    " << ToJson(model.salience()) << "\n";
}

int RunModels(const RequestOptions& options) {
  const auto stub = v1::GenerationService::NewStub(Connect(options));
  grpc::ClientContext context;
  SetDeadline(options, &context);
  v1::ListModelsResponse models;
  grpc::Status status;
  if (options.model.empty()) {
    status = stub->ListModels(&context, {}, &models);
  } else {
    v1::GetModelRequest request;
    request.set_model(options.model);
    status = stub->GetModel(&context, request, models.add_models());
  }
  if (!status.ok()) {
    std::cerr << "elserve: " << Describe(status) << "\n";
    return EXIT_FAILURE;
  }
  for (const v1::Model& model : models.models()) {
    if (options.json) {
      std::cout << ToJson(model) << "\n";
    } else {
      Print(model);
    }
  }
  return EXIT_SUCCESS;
}

}  // namespace

void AddModels(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<RequestOptions>();
  CLI::App* command = app.add_subcommand("models", "Show the models that a server has loaded");
  AddServerOption(*command, options.get());
  command->add_option("NAME", options->model, "One of them");
  command->callback([=] { *run = [options] { return RunModels(*options); }; });
}

}  // namespace elserve
