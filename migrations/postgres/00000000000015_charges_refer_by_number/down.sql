ALTER TABLE charges
    ADD CONSTRAINT charges_user_id_fkey FOREIGN KEY (user_id) REFERENCES users (id),
    ADD CONSTRAINT charges_price_id_fkey FOREIGN KEY (price_id) REFERENCES prices (id);
