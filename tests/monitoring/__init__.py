"""What an SRE's monitoring makes of Tangram: real Prometheus, our alerts, our dashboard."""
