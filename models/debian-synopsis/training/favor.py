"""FAVOR+ attention of Performers (Choromanski et al. 2020, "Rethinking Attention with Performers") for BART's encoder.

Softmax attention weighs the values by exp(q.k / sqrt(d)). FAVOR+ writes that number as the mean of phi(q).phi(k) over random
features w of a normal distribution, phi(x)_i = exp(w_i.x - |x|^2/2) / sqrt(m), and so sums over keys once for all queries: time
and memory are linear in the source's length. phi is positive, so a sum of weights is never near zero by cancelling, and features
that are orthogonal within blocks of d have less variance than independent ones. The scale 1/sqrt(d) goes to both sides alike.

A checkpoint made with it has `attention_type: "favor"` and `favor_features: m` in config.json, and the features of each encoder
layer as `model.encoder.layers.N.self_attn.features`, [m, d], which all heads of the layer share.
"""
import torch
from torch import nn
from transformers import BartForConditionalGeneration


def orthogonal_features(count, head_dim, generator):
    """[count, head_dim]: blocks of head_dim rows that are orthogonal to each other, by QR of a normal matrix, each row as long as a
    normal vector is (chi distributed)."""
    blocks = []
    for begin in range(0, count, head_dim):
        q, r = torch.linalg.qr(torch.randn(head_dim, head_dim, generator=generator))
        q = q * r.diagonal().sign()  # so that q is uniform among the orthogonal matrices
        blocks.append(q.T[:count - begin])
    lengths = torch.randn(count, head_dim, generator=generator).norm(dim=1, keepdim=True)
    return torch.cat(blocks) * lengths


def favor_attention(q, k, v, features, key_mask=None):
    """q, k, v: [batch, heads, tokens, d], q and k unscaled; features: [m, d]; key_mask: [batch, 1, tokens, 1], False where there is
    no token. Returns [batch, heads, tokens, d].

    Each feature's greatest exponent over the keys is taken out of phi(k) and given to phi(q), and then each query's greatest out of
    phi(q). Both cancel, like the constants |q|^2/2 and 1/sqrt(m); no epsilon is added anywhere."""
    scale = q.shape[-1] ** -0.25
    q, k = q * scale, k * scale
    of_keys = k @ features.T - k.square().sum(-1, keepdim=True) / 2  # [batch, heads, tokens, m]
    if key_mask is not None:
        of_keys = of_keys.masked_fill(~key_mask, -torch.inf)
    top = of_keys.amax(-2, keepdim=True).detach()
    phi_k = (of_keys - top).exp()
    of_queries = q @ features.T + top
    phi_q = (of_queries - of_queries.amax(-1, keepdim=True).detach()).exp()
    sums = phi_k.transpose(-1, -2) @ v  # [batch, heads, m, d]
    totals = phi_k.sum(-2).unsqueeze(-1)  # [batch, heads, m, 1]
    return (phi_q @ sums) / (phi_q @ totals)


def mask_of_keys(attention_mask):
    """transformers' mask of an encoder, [batch, 1, tokens, tokens], of booleans or added to scores -> [batch, 1, tokens, 1]."""
    if attention_mask is None:
        return None
    row = attention_mask[:, :, 0, :, None]
    return row if row.dtype == torch.bool else row == 0


class FavorAttention(nn.Module):
    """Takes the place of an encoder layer's BartAttention, whose projections it keeps."""

    def __init__(self, dense, count):
        super().__init__()
        self.heads, self.head_dim = dense.num_heads, dense.head_dim
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = dense.q_proj, dense.k_proj, dense.v_proj, dense.out_proj
        self.register_buffer("features", torch.empty(count, dense.head_dim))

    def forward(self, hidden_states, attention_mask=None, **_):
        batch, tokens, width = hidden_states.shape
        q, k, v = (p(hidden_states).view(batch, tokens, self.heads, self.head_dim).transpose(1, 2)
                   for p in (self.q_proj, self.k_proj, self.v_proj))
        # Exponents need more than bfloat16, which autocast would make of them.
        with torch.autocast(hidden_states.device.type, enabled=False):
            exact = torch.promote_types(hidden_states.dtype, torch.float32)
            q, k, v, features = (x.to(exact) for x in (q, k, v, self.features))
            out = favor_attention(q, k, v, features, mask_of_keys(attention_mask))
        out = out.to(hidden_states.dtype).transpose(1, 2).reshape(batch, tokens, width)
        return self.out_proj(out), None


class FavorBartForConditionalGeneration(BartForConditionalGeneration):
    """BART whose encoder has FAVOR+; config.favor_features says how many features. from_pretrained reads them; a model that is made
    has none before draw_features."""

    def __init__(self, config):
        super().__init__(config)
        config.attention_type = "favor"
        for layer in self.model.encoder.layers:
            layer.self_attn = FavorAttention(layer.self_attn, config.favor_features)

    def draw_features(self, generator):
        for layer in self.model.encoder.layers:
            features = layer.self_attn.features
            features.copy_(orthogonal_features(*features.shape, generator))
