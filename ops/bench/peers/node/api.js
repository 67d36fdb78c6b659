// Takes notifications and events of rooms in. The answer is 202 once the rows are committed and their jobs, or the
// events themselves, are on their way to Redis.
'use strict';

const { Emitter } = require('@socket.io/redis-emitter');
const { Queue } = require('bullmq');
const { timingSafeEqual } = require('node:crypto');
const express = require('express');
const { PRIORITIES, connectPostgres, connectRedis, queueName, roomName, sayReady } = require('./shared');

const MAX_BULK = 1000;
const COLUMNS = ['user_id', 'type', 'priority', 'title', 'body', 'data'];

const postgres = connectPostgres();
const redis = connectRedis();
const emitter = new Emitter(redis);
const queues = new Map(
  PRIORITIES.map((priority) => [
    priority,
    new Queue(queueName(priority), {
      connection: redis,
      defaultJobOptions: { attempts: 5, backoff: { type: 'exponential', delay: 500 }, removeOnComplete: true },
    }),
  ]),
);

// However many there are, one statement, and so one commit; it is prepared once per connection.
const INSERT = {
  name: 'insert',
  text: `INSERT INTO notification (${COLUMNS.join(', ')})
         SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::jsonb[])
         RETURNING id, priority`,
};

const INSERT_EVENT = {
  name: 'insert-event',
  text: 'INSERT INTO room_event (room, event, data) VALUES ($1, $2, $3) RETURNING id, created_at',
};

function problemOf(item) {
  if (typeof item !== 'object' || item === null) return 'a notification is an object';
  for (const field of ['user_id', 'type', 'title']) {
    if (typeof item[field] !== 'string' || item[field] === '') return `${field} must be a text`;
  }
  if (item.priority !== undefined && !queues.has(item.priority)) return `priority must be one of ${PRIORITIES}`;
  return null;
}

async function accept(items) {
  const rows = items.map((item) => ({
    ...item,
    priority: item.priority ?? 'normal',
    body: item.body ?? null,
    data: JSON.stringify(item.data ?? {}),
  }));
  const values = COLUMNS.map((column) => rows.map((row) => row[column]));
  const inserted = (await postgres.query({ ...INSERT, values })).rows;
  const jobs = new Map();
  for (const { id, priority } of inserted) {
    if (!jobs.has(priority)) jobs.set(priority, []);
    jobs.get(priority).push({ name: 'deliver', data: { id } });
  }
  await Promise.all(Array.from(jobs, ([priority, added]) => enqueue(queues.get(priority), added)));
  return inserted.map((row) => row.id);
}

function enqueue(queue, jobs) {
  return jobs.length === 1 ? queue.add(jobs[0].name, jobs[0].data) : queue.addBulk(jobs);
}

const expected = Buffer.from(`Bearer ${process.env.API_KEY}`);
function authenticate(request, response, next) {
  const given = Buffer.from(request.get('authorization') ?? '');
  if (given.length === expected.length && timingSafeEqual(given, expected)) return next();
  return response.status(401).json({ error: 'unauthorized' });
}

const app = express();
app.disable('x-powered-by');
app.disable('etag');
app.use(authenticate, express.json({ limit: '8mb' }));

app.post('/notifications', async (request, response) => {
  const problem = problemOf(request.body);
  if (problem) return response.status(422).json({ error: problem });
  const [id] = await accept([request.body]);
  return response.status(202).json({ id, status: 'accepted' });
});

app.post('/notifications/bulk', async (request, response) => {
  const items = request.body?.notifications;
  if (!Array.isArray(items) || items.length === 0 || items.length > MAX_BULK) {
    return response.status(422).json({ error: `notifications must be a list of 1 to ${MAX_BULK}` });
  }
  const problems = items.map((item, index) => ({ index, error: problemOf(item) })).filter((each) => each.error);
  if (problems.length > 0) return response.status(422).json({ error: 'nothing was accepted', problems });
  return response.status(202).json({ ids: await accept(items) });
});

// A broadcast needs no job: the row is there, and one message to Redis reaches every socket server.
app.post('/rooms/:room/events', async (request, response) => {
  const { room } = request.params;
  const { event, data = {} } = request.body ?? {};
  if (typeof event !== 'string' || event === '') {
    return response.status(422).json({ error: 'event must be a text' });
  }
  const { rows } = await postgres.query({ ...INSERT_EVENT, values: [room, event, JSON.stringify(data)] });
  const { id, created_at: at } = rows[0];
  emitter.to(roomName(room)).emit('room', { room, id, event, data, at });
  return response.status(202).json({ room, id });
});

app.listen(Number(process.env.PORT), '127.0.0.1', sayReady);
