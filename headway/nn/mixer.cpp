// What mixers share. Not for: any one of them.
#include "headway/nn/mixer.h"

namespace headway::nn {

ops::AttentionDropout dropout_for(const MixerInput& input, double probability) {
  if (input.context == nullptr || !input.context->random) return {};
  const RandomStream& random = *input.context->random;
  return {probability, ops::dropout_key(random.seed, random.step, random.micro_batch,
                                        static_cast<uint64_t>(input.layer))};
}

}  // namespace headway::nn
