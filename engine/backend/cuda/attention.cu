// Which attention kernel takes which shape; scores with biases are the plain one's.
#include "engine/backend/cuda/attention.cuh"

namespace elserve::cuda {

cudaError_t LaunchCrossAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (!args.bias.any() &&
      (args.el ? LaunchElCrossAttention(args, stream, &error) : LaunchKeyValueCrossAttention(args, stream, &error)))
    return error;
  return LaunchPlainCrossAttention(args, stream);
}

cudaError_t LaunchSelfAttention(const DecodeAttentionKernelArgs& args, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (!args.bias.any() &&
      (args.el ? LaunchElSelfAttention(args, stream, &error) : LaunchKeyValueSelfAttention(args, stream, &error)))
    return error;
  return LaunchPlainSelfAttention(args, stream);
}

cudaError_t LaunchEncoderAttention(const EncoderAttentionKernelArgs& args, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  if (!args.bias.any() && LaunchTensorEncoderAttention(args, stream, &error)) return error;
  return LaunchPlainEncoderAttention(args, stream);
}

cudaError_t PrepareKernels(const Device& device) {
  for (const auto prepare : {PrepareElAttention, PrepareKeyValueCrossAttention, PrepareEncoderAttention}) {
    if (const cudaError_t error = prepare(device); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

}  // namespace elserve::cuda
