"""retina_jit"""
