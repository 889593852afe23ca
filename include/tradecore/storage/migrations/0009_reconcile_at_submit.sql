-- The book is compared with the venue once more before anything is sent.
ALTER TABLE reconciliations DROP CONSTRAINT reconciliations_phase_check;
ALTER TABLE reconciliations ADD CONSTRAINT reconciliations_phase_check CHECK (phase IN ('settle', 'plan', 'submit'));
