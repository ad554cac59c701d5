"""RESULTS OUT: what is said of a study leaves the house.

As DICOM SR and Secondary Capture beside the films, as HL7 for the radiology system, as a signed webhook for
whatever else should know. Each is planned when a study is complete, built once, and sent until the other
side has it. Destinations come from the settings alone.
"""
