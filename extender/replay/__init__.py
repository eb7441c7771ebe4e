"""A recorded demand played again: under the policy it had, and under others.

Values in, values out. What decides is what decides in the cluster: the verdicts and choices of
``verbs``, within the bounds of ``tenancy``, on views of the recorded nodes.
"""
