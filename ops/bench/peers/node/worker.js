// Delivers: marks the row, and emits it to the user's room on whichever socket server holds it.
'use strict';

const { Emitter } = require('@socket.io/redis-emitter');
const { Worker } = require('bullmq');
const { PRIORITIES, connectPostgres, connectRedis, queueName, sayReady } = require('./shared');

const CONCURRENCY = { critical: 64, high: 64, normal: 64, low: 32 };

const postgres = connectPostgres();
const emitter = new Emitter(connectRedis());

// One round trip: it returns nothing for a row that another attempt at the same job has delivered already.
const DELIVER = {
  name: 'deliver',
  text: `UPDATE notification SET delivered_at = now() WHERE id = $1 AND delivered_at IS NULL
         RETURNING id, user_id, type, priority, title, body, data, created_at`,
};

async function deliver(job) {
  const { rows } = await postgres.query({ ...DELIVER, values: [job.data.id] });
  for (const { user_id: user, ...notification } of rows) {
    emitter.to(`user:${user}`).emit('notification', notification);
  }
}

const workers = PRIORITIES.map((priority) => {
  const worker = new Worker(queueName(priority), deliver, {
    connection: connectRedis(),
    concurrency: CONCURRENCY[priority],
  });
  worker.on('error', (error) => console.error(error));
  worker.on('failed', (_job, error) => console.error(error));
  return worker;
});

Promise.all(workers.map((worker) => worker.waitUntilReady())).then(sayReady);
