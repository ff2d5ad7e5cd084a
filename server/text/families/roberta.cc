// BART and RoBERTa: vocab.json and merges.txt, byte-level BPE (RobertaTokenizer).
#include "server/text/families/byte_level_family.h"

namespace elserve {
namespace {

void RebuildRoberta(const FamilyFiles& files, TokenizerSpec& spec) {
  if (!SetByteLevelSteps(files.config, spec)) return;
  spec.span_trims.clear();
  if (files.config.Bool(files.config.root(), "", "trim_offsets", true)) {
    spec.span_trims = {{.add_prefix_space = AddsPrefixSpace(files.config)}};
  }
  const NamedToken& cls = *files.special.Find("cls_token");
  const NamedToken& sep = *files.special.Find("sep_token");
  spec.before = {{std::nullopt, cls.token.content, cls.source}};
  spec.after = {{std::nullopt, sep.token.content, sep.source}};
}

}  // namespace

const TokenizerFamily kRobertaTokenizer = {.class_name = "RobertaTokenizer",
                                           .tokens = {"<s>", "</s>", "<unk>", "</s>", "<pad>", "<s>", "<mask>"},
                                           .read = ReadVocabAndMerges,
                                           .rebuild = RebuildRoberta,
                                           .read_languages = nullptr};

}  // namespace elserve
