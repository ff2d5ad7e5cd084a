#include "server/commands/client/tokenize.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <iostream>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/elserve/v1/elserve.grpc.pb.h"
#include "server/commands/client/command.h"
#include "server/commands/client/printing.h"
#include "server/config/checkpoint_path.h"
#include "server/text/tokenizer.h"

namespace elserve {
namespace {

struct TokenizeOptions {
  RequestOptions request;
  std::string path;    // a tokenizer's folder, or hub:OWNER/NAME; empty: the server's
  bool bare = false;   // without special tokens
  bool count = false;  // the number of tokens alone
};

// Asks a server, or a tokenizer that it reads itself.
class TokenSource {
 public:
  explicit TokenSource(const TokenizeOptions& options) : options_(options) {}

  absl::Status Open() {
    if (options_.path.empty()) {
      stub_ = v1::GenerationService::NewStub(Connect(options_.request));
      return absl::OkStatus();
    }
    const absl::StatusOr<std::string> folder = FindCheckpoint(options_.path, "");
    if (!folder.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat("--path is ", options_.path, "; allowed is ", folder.status().message()));
    }
    absl::StatusOr<std::unique_ptr<Tokenizer>> tokenizer = Tokenizer::Load(*folder);
    if (!tokenizer.ok()) return tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    return absl::OkStatus();
  }

  Output Run(const Input& input) const {
    const auto start = std::chrono::steady_clock::now();
    v1::TokenizeResponse tokens;
    const std::string error = tokenizer_ != nullptr ? Encode(input.text, &tokens) : Ask(input.text, &tokens);
    if (!error.empty()) return {.out = {}, .error = error};
    if (options_.request.json)
      return {.out = JsonLine(input.name, SecondsSince(start), "response", tokens), .error = {}};
    const std::string name = PrintsNames(options_.request) ? absl::StrCat(input.name, ": ") : "";
    const std::string line =
        options_.count ? absl::StrCat(tokens.token_ids_size()) : absl::StrJoin(tokens.token_ids(), " ");
    return {.out = absl::StrCat(name, line, "\n"), .error = {}};
  }

 private:
  // Both fill the tokens, or say what went wrong.
  std::string Encode(const std::string& text, v1::TokenizeResponse* tokens) const {
    const RequestOptions& request = options_.request;
    // As the server: a language that is not known is an error, whether or not its token is asked for.
    const absl::StatusOr<Frame> frame = tokenizer_->FrameOf(request.source_language, request.target_language);
    if (!frame.ok()) return std::string(frame.status().message());
    const absl::StatusOr<Encoding> encoding = tokenizer_->Encode(text, {.add_special_tokens = !options_.bare,
                                                                        .source_language = request.source_language,
                                                                        .target_language = request.target_language,
                                                                        .spans = request.json});
    if (!encoding.ok()) return std::string(encoding.status().message());
    tokens->mutable_token_ids()->Add(encoding->ids.begin(), encoding->ids.end());
    for (const TextSpan& span : encoding->spans) {
      tokens->add_begin(span.begin);
      tokens->add_end(span.end);
    }
    return "";
  }

  std::string Ask(const std::string& text, v1::TokenizeResponse* tokens) const {
    v1::TokenizeRequest request;
    request.set_model(options_.request.model);
    request.set_text(text);
    request.set_add_special_tokens(!options_.bare);
    request.set_source_language(options_.request.source_language);
    request.set_target_language(options_.request.target_language);
    grpc::ClientContext context;
    SetDeadline(options_.request, &context);
    const grpc::Status status = stub_->Tokenize(&context, request, tokens);
    return status.ok() ? "" : Describe(status);
  }

  const TokenizeOptions& options_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

int RunTokenize(const TokenizeOptions& options) {
  TokenSource source(options);
  if (const absl::Status opened = source.Open(); !opened.ok()) {
    std::cerr << "elserve: " << opened.message() << "\n";
    return EXIT_FAILURE;
  }
  return RunForInputs(options.request, [&source](const Input& input) { return source.Run(input); });
}

}  // namespace

void AddTokenize(CLI::App& app, std::function<int()>* run) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App* command = app.add_subcommand("tokenize", "Show the token ids of files, or of standard input");
  AddServerOption(*command, &options->request);
  command->add_option("--model", options->request.model, "Name of a model; not needed where the server has one");
  command->add_option("--path", options->path,
                      "A folder with a tokenizer, or hub:OWNER/NAME in the local cache, instead of a server");
  command->add_option("--source-language", options->request.source_language, "Code of the texts' language");
  command->add_option("--target-language", options->request.target_language, "Code of the language to be written");
  command->add_flag("--no-special-tokens", options->bare, "Leave out what stands around a text");
  command->add_flag("--count", options->count, "Print how many there are, and not which");
  command->add_flag("--lines", options->request.lines, "Every line of the input is a text of its own");
  command->add_option("FILE", options->request.files, "Texts; none, or -: standard input");
  command->callback([=] { *run = [options] { return RunTokenize(*options); }; });
}

}  // namespace elserve
