"""Configs of tiny vision models: their sizes, and the backbones below them."""

import transformers

VIT_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "image_size": 64,
    "patch_size": 16,
}
BACKBONE = {
    "embedding_size": 16,
    "hidden_sizes": [16, 16, 32, 32],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}
LAST_STAGE = {**BACKBONE, "out_features": ["stage4"]}
LAST_STAGES = {**BACKBONE, "out_features": ["stage2", "stage3", "stage4"]}
ALL_STAGES = {**BACKBONE, "out_features": ["stage1", "stage2", "stage3", "stage4"]}
DECODER_SIZES = {
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
}
DETR_SIZES = {
    **DECODER_SIZES,
    "use_timm_backbone": False,
    "use_pretrained_backbone": False,
    "backbone": None,
    "backbone_config": transformers.ResNetConfig(**LAST_STAGE),
    "encoder_layers": 1,
    "num_queries": 12,
}
RT_DETR_SIZES = {
    **DECODER_SIZES,
    "backbone_config": transformers.RTDetrResNetConfig(**LAST_STAGES),
    "encoder_in_channels": [16, 32, 32],
    "decoder_in_channels": [32, 32, 32],
    "encoder_hidden_dim": 32,
    "d_model": 32,
    "num_queries": 20,
    "num_denoising": 0,
}
SWIN_STAGES = {
    "embed_dim": 16,
    "depths": [2, 2, 1, 1],
    "num_heads": [1, 2, 2, 4],
    "window_size": 7,
    "image_size": 64,
    "out_features": ALL_STAGES["out_features"],
}
MASKFORMER_SIZES = {
    "fpn_feature_size": 32,
    "mask_feature_size": 32,
    "decoder_config": transformers.DetrConfig(**DETR_SIZES, d_model=32),
}
MASK2FORMER_SIZES = {
    "backbone_config": transformers.SwinConfig(**SWIN_STAGES),
    "feature_size": 32,
    "mask_feature_size": 32,
    "hidden_dim": 32,
    "encoder_feedforward_dim": 64,
    "encoder_layers": 2,
    "decoder_layers": 3,
    "num_attention_heads": 4,
    "dim_feedforward": 64,
    "num_queries": 12,
}
