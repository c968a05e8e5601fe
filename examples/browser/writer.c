/* The model for a page: one stream, whose memory is here. */
#include "model.h"

#define EXPORT(name) __attribute__((export_name(#name)))

static model_state state;
static float logits[MODEL_OUTPUTS];

EXPORT(reset) void reset(void)
{
    model_reset(&state);
}

/* Read a token, and return where the logits of the next are. */
EXPORT(step) const float *step(int32_t token)
{
    model_step(&state, &token, logits);
    return logits;
}

EXPORT(vocabulary) int vocabulary(void)
{
    return MODEL_OUTPUTS;
}
