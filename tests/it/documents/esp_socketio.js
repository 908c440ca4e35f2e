const socket = io('http://localhost:8000', {
    auth: {
        token: 'YOUR_JWT_TOKEN'
    },
    transports: ['websocket', 'polling']
});

// Connection events
socket.on('connect', () => {
    console.log('Connected to server');

    // Subscribe to wells
    socket.emit('subscribe', { well_id: 'WELL-001' });
    socket.emit('subscribe', { well_id: 'WELL-002' });
});

socket.on('disconnect', () => {
    console.log('Disconnected from server');
});

// Data events
socket.on('telemetry_update', (data) => {
    console.log('Telemetry:', data);
    updateDashboard(data);
});

socket.on('alert', (data) => {
    console.log('ALERT:', data);
    showAlertNotification(data);
});

// Error handling
socket.on('error', (data) => {
    console.error('Error:', data);
});

socket.on('connect_error', (error) => {
    console.error('Connection error:', error);
});

// Heartbeat (every 25 seconds)
setInterval(() => {
    if (socket.connected) {
        socket.emit('ping');
    }
}, 25000);
