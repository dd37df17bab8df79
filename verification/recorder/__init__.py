"""Record what a model computes, stage by stage, in the folder that bundles are compared with."""
