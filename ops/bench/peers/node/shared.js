// What the three processes have in common: connections, names, and the line that says that a process is ready.
'use strict';

const { Redis } = require('ioredis');
const { Pool } = require('pg');

// One queue for each priority: a list, which BullMQ serves faster than one queue that it keeps sorted.
const PRIORITIES = ['critical', 'high', 'normal', 'low'];
const queueName = (priority) => `notifications-${priority}`;

const connectPostgres = () => new Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
const connectRedis = () => new Redis(process.env.REDIS_URL, { maxRetriesPerRequest: null });

// A live channel; users have rooms of their own beside it.
const roomName = (room) => `room:${room}`;

const sayReady = () => console.log('ready');

module.exports = { PRIORITIES, connectPostgres, connectRedis, queueName, roomName, sayReady };
