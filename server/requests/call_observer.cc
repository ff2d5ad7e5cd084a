#include "server/requests/call_observer.h"

namespace elserve {

std::string_view RpcName(Rpc rpc) {
  switch (rpc) {
    case Rpc::kSummarize:
      return "Summarize";
    case Rpc::kStreamSummarize:
      return "StreamSummarize";
    case Rpc::kGenerateQuestions:
      return "GenerateQuestions";
    case Rpc::kStreamGenerateQuestions:
      return "StreamGenerateQuestions";
    case Rpc::kGenerate:
      return "Generate";
    case Rpc::kStreamGenerate:
      return "StreamGenerate";
    case Rpc::kScore:
      return "Score";
  }
  return "";
}

bool IsStream(Rpc rpc) {
  return rpc == Rpc::kStreamSummarize || rpc == Rpc::kStreamGenerateQuestions || rpc == Rpc::kStreamGenerate;
}

}  // namespace elserve
