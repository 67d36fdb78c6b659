-- The row is the notification and its delivery in one: this stack addresses one user at a time.
CREATE TABLE notification (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL,
    type text NOT NULL,
    priority text NOT NULL CHECK (priority IN ('critical', 'high', 'normal', 'low')),
    title text NOT NULL,
    body text,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    delivered_at timestamptz,
    read_at timestamptz
);

CREATE INDEX notification_by_user ON notification (user_id, id DESC);

CREATE TABLE room_event (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    room text NOT NULL,
    event text NOT NULL,
    data jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX room_event_by_room ON room_event (room, id DESC);
