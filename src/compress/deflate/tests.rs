mod adversarial;
mod data;
mod golden;
mod properties;
